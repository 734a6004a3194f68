"""Whether the gripper holds something, asked without a Python object for every contact."""

from __future__ import annotations

from typing import Any


class QuickContacts:
    """Before a Meta-World environment: its answers, bit for bit.

    Fourteen tasks ask at every step, and Meta-World walks the list of contacts twice for it, which takes a third of
    the step in coffee-pull.
    """

    data: Any

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both of the gripper's pads press on a geom."""
        pads = [self.data.geom(name).id for name in ("leftpad_geom", "rightpad_geom")]
        contacts = self.data.contact
        pairs, addresses = contacts.geom, contacts.efc_address
        on_object = (pairs == object_geom_id).any(1)
        forces = (
            # Python's sum: NumPy adds in another order.
            sum(self.data.efc_force[addresses[on_object & (pairs == pad).any(1)]])
            for pad in pads
        )
        return all(force > 0 for force in forces)
