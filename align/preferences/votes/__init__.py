"""What people say about rollouts, and how it stands in files.

``schema`` (the rows) over ``fields`` (their cells) and ``corrections`` (what a whole table must hold); ``tables`` reads and
writes files; ``mapping``, ``mapped`` and ``plain_yaml`` read other people's tables; ``export`` and ``wide`` write theirs.
"""
