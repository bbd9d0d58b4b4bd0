"""A count of changes to modules and hooks: who relies on their being as they were asks whether it is still the same.

A captured step holds for the attributes that its modules had. To look at all of them in every call would take longer
than the step; the count says in one comparison that nobody has touched any module, nor added or removed a hook.
"""

changes = [0]
"""The count, as the one entry of a list: it only grows."""
plain_changes = [0]
"""The same of assignments to attributes of modules that are no parameter, buffer or module, as those of `eval()` and
`train()` around a validation: there it is worth looking at the attributes again.
"""
