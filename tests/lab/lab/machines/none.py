"""No machine at all: a VM that is only its configuration."""

from . import Machine


class Nothing(Machine):
    """Runs when told so and stops at once when asked to."""

    async def press_power_button(self) -> None:
        self.on_exit(self)
