"""What the code of a row is made of: which arguments are compared with which, and what its node saves and where."""

from __future__ import annotations

from nanotorch.ops.rows.declaration import Declaration


class Plan:
    """What the writers of a row's code read (Note [Names in compiled code]).

    Attributes:
        row: the row.
        values: the tensor arguments whose dtypes are compared.
        dtype: the code of the dtype that they are compared with, which also says whether the row runs on float16.
        names_dtype: whether that is a variable of its own.
        inputs: all tensor arguments by name.
        constant: values that have no formula in a row that has some.
        takes_out: whether the public function has an argument `out`.
        results: the position of every output by name.
        hidden: the names of outputs that formulas alone see.
        saved_inputs, saved_results, shapes, saved_plain: what the node keeps, by kind.
        checked: the saved results that somebody could write to.
        unbroadcast: the inputs whose gradients are summed over broadcast dimensions.
    """

    def __init__(self, row: Declaration) -> None:
        self.row = row
        self.takes_out = row.where in ("both", "function", "linalg") and not row.view and row.outputs != ["list"]
        self.values = [p for p in row.tensors if p.value]
        self.dtype, self.names_dtype = "", bool(self.values) and not self.values[0].many
        if self.values:
            self.dtype = f"d_{self.values[0].name}" if self.names_dtype else f"a_{self.values[0].name}[0].dtype"
        self.hidden = [n for n in row.outputs if n.startswith("_")]
        self.inputs = {p.name: p for p in row.tensors}
        self.constant = [p for p in self.values if row.formulas and p.name not in row.formulas]
        self.results = {name: k for k, name in enumerate(row.outputs)} if row.outputs != ["list"] else {}
        self.shapes = [n for n in row.saved if n.endswith("_shape") and n[:-6] in self.inputs]
        self.saved_inputs = [n for n in row.saved if n in self.inputs]
        if any(name in row.saved for name in self.hidden):
            self.saved_inputs = list(self.inputs)  # a hidden output is recomputed from the inputs when recording
        self.saved_results = [n for n in row.saved if n == "result" or n in self.results]
        self.checked = [n for n in self.saved_results if n not in self.hidden]
        known = {*self.shapes, *self.saved_inputs, *self.saved_results}
        self.saved_plain = [n for n in row.saved if n not in known]
        if self.hidden and self.saved_results:
            names = {p.name for p in row.parameters if not p.tensor}
            self.saved_plain = sorted(set(self.saved_plain) | names)
        self.unbroadcast = list(row.formulas) if len(self.values) > 1 and not any(p.many for p in self.values) else []
        unknown = set(self.saved_plain) - {p.name for p in row.parameters}
        if unknown:
            raise TypeError(
                f"row {row.name}: a formula names {sorted(unknown)}, which are no inputs, outputs or arguments"
            )
