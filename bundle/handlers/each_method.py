"""Every metric for every method: the handlers of an evaluation from two short lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from monai.handlers import from_engine
from monai.utils.enums import CommonKeys

from bundle.handlers.image_quality import ImageQualityHandler
from bundle.handlers.scores import REAL

Factory = Callable[..., ImageQualityHandler]


def for_each_method(
    methods: Iterable[str],
    factories: Mapping[str, Factory],
    *,
    real: Mapping[str, Factory] | None = None,
    without: Collection[str] = (),
) -> dict[str, ImageQualityHandler]:
    """One handler for each method and metric, under `<method>_<metric>` as `EvaluationReport` wants them.

    In JSON a factory is a handler with `"_mode_": "callable"` and all its options but `output_transform`, which
    picks a method's volume and the real one, and is given here.

    Args:
        methods: keys under which the engine's output has the methods' volumes, (1, H, W, S); a mapping's keys serve.
        factories: metric to what makes its handler.
        real: the same for scores of the real volume alone, attached under `real_<metric>`; they are given the first
            method's volume, too, and leave it unread.
        without: names that are attached elsewhere, such as the evaluator's key metric.

    Returns:
        name to handler, by method in the order given, then `real`.

    Raises:
        ValueError: if there is no method or no factory, a method is called `real`, or `without` names none of them.
    """
    keys = list(methods)
    if not keys or REAL in keys:
        raise ValueError(f"`methods` must name at least one method and none `{REAL}`, got {keys}.")
    if not factories:
        raise ValueError("`factories` must hold at least one metric, got none.")
    wanted = [(f"{key}_{metric}", make, key) for key in keys for metric, make in factories.items()]
    wanted += [(f"{REAL}_{metric}", make, keys[0]) for metric, make in (real or {}).items()]
    names = [name for name, _, _ in wanted]
    unknown = set(without) - set(names)
    if unknown:
        raise ValueError(f"`without` names {', '.join(sorted(unknown))}; there are: {', '.join(names)}.")
    return {
        name: make(output_transform=from_engine([key, CommonKeys.LABEL]))
        for name, make, key in wanted
        if name not in without
    }


def present_methods(methods: Mapping[str, str], *, only_if: Mapping[str, bool]) -> dict[str, str]:
    """The methods that this evaluation has.

    Args:
        methods: method to its name on pages.
        only_if: method to whether it is there, such as an oracle without files; those not named here are.

    Raises:
        ValueError: if `only_if` names no method.
    """
    unknown = set(only_if) - set(methods)
    if unknown:
        raise ValueError(f"`only_if` names {', '.join(sorted(unknown))}; the methods are {', '.join(methods)}.")
    return {key: name for key, name in methods.items() if only_if.get(key, True)}
