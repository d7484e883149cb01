"""Whether the data can be trusted: copies, leaks between splits, shortcuts, balance, health.

Each check is a module with a function from a :class:`~.subject.ImageSet` to a result of its own,
which has ``findings()`` (sentences with a level) and ``describe()`` (everything, ready for JSON).
"""
