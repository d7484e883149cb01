"""A spec's formula as people write one."""

from __future__ import annotations

import ast

_SIGNS: dict[type[ast.operator], tuple[str, int]] = {
    ast.Add: (" + ", 1),
    ast.Sub: (" \N{MINUS SIGN} ", 1),
    ast.Mult: (" \N{MIDDLE DOT} ", 2),
    ast.Div: (" / ", 2),
    ast.Pow: ("^", 4),
}
_POWERS = {"2": "²", "3": "³"}
_ATOM = 5


def readable(formula: str) -> str:
    """The formula with signs of mathematics; as it is, where it is not an expression.

    >>> readable("weight * (x - mean) / sqrt(var + eps) + bias")
    'weight · (x − mean) / √(var + eps) + bias'
    """
    try:
        tree = ast.parse(formula, mode="eval")
        return _written(tree.body)[0]
    except (SyntaxError, TypeError):
        return formula


def _written(node: ast.expr) -> tuple[str, int]:
    """The text, and how tightly its outermost sign binds."""
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        sign, binds = _SIGNS[type(node.op)]
        power = _POWERS.get(ast.unparse(node.right))
        if isinstance(node.op, ast.Pow) and power is not None:
            return f"{_inside(node.left, _ATOM)}{power}", binds
        # What stands to the right of a minus or a division needs brackets at equal strength.
        right = binds + 1 if isinstance(node.op, (ast.Sub, ast.Div)) else binds
        left = binds + isinstance(node.op, ast.Pow)
        return f"{_inside(node.left, left)}{sign}{_inside(node.right, right)}", binds
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"\N{MINUS SIGN}{_inside(node.operand, 3)}", 3
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        name = {"sqrt": "√"}.get(node.func.id, node.func.id)
        return f"{name}({', '.join(_written(a)[0] for a in node.args)})", _ATOM
    if isinstance(node, ast.Name):
        return node.id, _ATOM
    if isinstance(node, ast.Constant):
        return str(node.value), _ATOM
    raise TypeError(f"a formula has no {type(node).__name__}")


def _inside(node: ast.expr, binds: int) -> str:
    text, own = _written(node)
    return text if own >= binds else f"({text})"
