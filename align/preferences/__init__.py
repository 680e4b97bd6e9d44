"""What people prefer, from a click to a figure.

Read in this order; imports go the other way.

1. ``votes``: what a label is, and labels in files.
2. ``pairing``: which rollouts to compare.
3. ``storage``: the database that loses nothing.
4. ``accounts``: who may sign in.
5. ``campaign``: who is asked what, and what becomes of the answers.
6. ``statistics``: what the answers say, and whom to rely on.
7. ``annotators``: simulated people. ``exchange``: every kind of label between files and the database.
"""
