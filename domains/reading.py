"""How a user asks for image files to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from framebench.domains.imagefiles import Resizing
from framebench.errors import InputError


@dataclass(frozen=True)
class Reading:
    """How image files are read, and what is known about their classes.

    Attributes:
        size: Height and width of the images; None for the domain's own.
        resize: What their shorter side is resized to before the centre is cut out; None for the domain's own.
        interpolation: How they are resized (`framebench.domains.imagefiles.INTERPOLATIONS`); None for the domain's own.
        skip_broken: Whether images that can't be decoded are left out; otherwise they are errors.
        classes: The class lists of the models that the images are for, which tell the labels of folders by name.
        logits: Number of logits of these models, where none has a list; None if unknown.
    """

    size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    skip_broken: bool = False
    classes: tuple[tuple[str, ...], ...] = ()
    logits: int | None = None

    @property
    def resizes(self) -> bool:
        """Whether a way to resize is asked for."""
        return any(asked is not None for asked in (self.size, self.resize, self.interpolation))

    def rule(self, usual: Resizing | None) -> Resizing | None:
        """Return the rule that is asked for, completed by the usual one, or that one.

        Raises:
            InputError: if a size is asked for without which there is no rule.
        """
        if not self.resizes:
            return usual
        if usual is None:
            if self.size is None:
                raise InputError("--resize and --interpolation need --image-size too, the height and width of the "
                                 "images")
            usual = Resizing(self.size, self.size)
        size = self.size or usual.size
        resize = self.resize or round(usual.resize * size / usual.size)
        return replace(usual, resize=resize, size=size, interpolation=self.interpolation or usual.interpolation)

    def named(self, name: str, usual: Resizing | None) -> str:
        """Return a domain's name, with what is asked for where it differs from the usual rule."""
        rule = self.rule(usual)
        return name if rule is None or rule == usual else f"{name}@{rule.resize}-{rule.size}-{rule.interpolation}"

    def refuse(self, name: str) -> None:
        """Refuse what can't be asked of a domain that is not read from image files.

        Raises:
            InputError: if it is asked for.
        """
        if self.resizes or self.skip_broken:
            raise InputError(f"{name} is not read from image files of any size; leave out --image-size, --resize, "
                             "--interpolation and --skip-broken")


#: Every domain in its own way.
USUAL = Reading()
