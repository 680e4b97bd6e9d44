"""What labels say, each figure with what it rests on.

Agreement: ``alpha``, ``agreement``. Rankings: ``davidson``, ``ranking``. Annotators: ``crowd_model``, ``skill``, ``copying``,
``overlaps`` and ``saddlepoint`` (with each other), ``habits`` (alone), ``dawid_skene`` (categories), and ``reliability``, which
puts them together. ``report`` says everything at once.
"""
