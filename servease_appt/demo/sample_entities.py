"""The customers, employees and vehicles of the demo, in the form of the fake services.

The same seed gives the same entities. There are 24 employees, so that a page of 20 appointments can show 20
of them.
"""

import random
import uuid
from dataclasses import dataclass
from typing import Any

CUSTOMERS = 320
EMPLOYEES = 24

_FIRST = (  # noqa: SIM905 - a list of these would be a page long
    "Aisha Amara Anika Anton Beatriz Bilal Carla Chen Chloe Daniel Deepa Diego Ediz Elena Emre Farah "
    "Felix Freya Gabriel Grace Hana Henrik Ibrahim Ines Isaac Ishara Jakob Jana Joana Kamal Karin Kwame "
    "Laila Leon Lucia Mara Mateo Maya Nadia Nimal Noah Nuwan Olga Omar Oskar Paula Priya Rafael Rania "
    "Ravi Rosa Ruth Samira Sanjay Sofia Tariq Thilini Tomas Ursula Vera Viktor Wanjiru Yara Yusuf Zoe"
).split()
_LAST = (  # noqa: SIM905 - a list of these would be a page long
    "Abeysekera Adeyemi Almeida Andersson Bakker Bandara Becker Bianchi Castillo Chaudhry Costa Dias "
    "Dubois Eriksen Fernando Ferreira Fischer Garcia Gunawardena Haddad Hansen Horvat Ibrahim Ivanova "
    "Jansen Jayasuriya Kaya Keller Kowalski Kumar Lambert Lindgren Lopez Mahmoud Mendis Moreau Moretti "
    "Mwangi Nakamura Nguyen Novak Okafor Olsen Perera Petrov Ranasinghe Ricci Rossi Sato Schneider Silva "
    "Singh Svensson Tanaka Torres Vasquez Weber Wickramasinghe Yilmaz Zhang"
).split()
_MODELS = {
    "Toyota": ("Corolla", "Yaris", "RAV4", "Aqua", "Hilux"),
    "Honda": ("Civic", "Fit", "Vezel", "CR-V"),
    "Nissan": ("Leaf", "Qashqai", "X-Trail"),
    "Suzuki": ("Swift", "Alto", "Vitara"),
    "Volkswagen": ("Golf", "Polo", "Passat"),
    "Skoda": ("Fabia", "Octavia"),
    "Ford": ("Fiesta", "Focus", "Ranger"),
    "Hyundai": ("i20", "Tucson", "Ioniq 5"),
    "Kia": ("Picanto", "Sportage"),
    "BMW": ("118i", "320d", "X1"),
    "Renault": ("Clio", "Megane", "Zoe"),
    "Tesla": ("Model 3", "Model Y"),
}

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class People:
    """Entries for the three fake services, in the form of `FakeService.put`."""

    customers: list[Entry]
    employees: list[Entry]
    vehicles: list[Entry]

    def vehicles_of(self, customer_id: str) -> list[Entry]:
        """Return a customer's vehicles, at least one."""
        return [vehicle for vehicle in self.vehicles if vehicle["customer_id"] == customer_id]


def make_people(rng: random.Random, this_year: int) -> People:
    """Make all customers, employees and vehicles."""
    names = [f"{first} {last}" for first in _FIRST for last in _LAST]
    rng.shuffle(names)
    customers = [_customer(rng, name) for name in names[:CUSTOMERS]]
    staff = names[CUSTOMERS : CUSTOMERS + EMPLOYEES]
    vehicles = [
        _vehicle(rng, customer["id"], this_year)
        for customer in customers
        for _ in range(rng.choice((1, 1, 1, 2)))
    ]
    return People(customers, [{"id": new_id(rng), "full_name": name} for name in staff], vehicles)


def new_id(rng: random.Random) -> str:
    """Return a random UUID of this generator."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _customer(rng: random.Random, name: str) -> Entry:
    email = f"{name.lower().replace(' ', '.')}@example.com"
    return {"id": new_id(rng), "own_id": new_id(rng), "full_name": name, "email": email}


def _vehicle(rng: random.Random, customer_id: str, this_year: int) -> Entry:
    make = rng.choice(sorted(_MODELS))
    return {
        "id": new_id(rng),
        "year": this_year - rng.randrange(0, 14),
        "make": make,
        "model": rng.choice(_MODELS[make]),
        "customer_id": customer_id,
    }
