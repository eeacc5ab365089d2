"""The names, places and things that the demo wedding platform is told in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A city with its country (ISO 3166), currency (ISO 4217), telephone code, and cost of a wedding (1 is average)."""

    city: str
    country: str
    currency: str
    dialling: str
    cost: float


PLACES = (
    Place("London", "GB", "GBP", "44", 1.35),
    Place("Bath", "GB", "GBP", "44", 1.10),
    Place("Edinburgh", "GB", "GBP", "44", 1.00),
    Place("Dublin", "IE", "EUR", "353", 1.15),
    Place("Paris", "FR", "EUR", "33", 1.30),
    Place("Lyon", "FR", "EUR", "33", 1.00),
    Place("Nice", "FR", "EUR", "33", 1.15),
    Place("Berlin", "DE", "EUR", "49", 0.95),
    Place("Munich", "DE", "EUR", "49", 1.10),
    Place("Vienna", "AT", "EUR", "43", 1.00),
    Place("Zürich", "CH", "CHF", "41", 1.60),
    Place("Lugano", "CH", "CHF", "41", 1.45),
    Place("Florence", "IT", "EUR", "39", 1.20),
    Place("Como", "IT", "EUR", "39", 1.40),
    Place("Palermo", "IT", "EUR", "39", 0.80),
    Place("Barcelona", "ES", "EUR", "34", 1.00),
    Place("Sevilla", "ES", "EUR", "34", 0.85),
    Place("Lisbon", "PT", "EUR", "351", 0.85),
    Place("New York", "US", "USD", "1", 1.50),
    Place("Charleston", "US", "USD", "1", 1.05),
    Place("Austin", "US", "USD", "1", 0.95),
    Place("Stockholm", "SE", "SEK", "46", 1.10),
)

# Units of the currency for one euro, near the European Central Bank's reference rates of 2026.
EXCHANGE_RATES = {"EUR": "1.000000", "GBP": "0.865000", "CHF": "0.935000", "USD": "1.165000", "SEK": "11.050000"}

VENUE_KINDS = ("Manor", "Barn", "Castle", "Vineyard", "Gardens", "Hall", "Orangery", "Lodge", "Villa", "Mill")
VENUE_NAMES = (
    "Rosewood", "Alderbrook", "Silverlake", "Harrow Hill", "Thornbury", "Willowmere", "Oakhaven", "Bellevue",
    "Santa Lucia", "Fairmont", "Larkspur", "Greystone", "Hazelwood", "Montrose", "Bluebell", "Saint-Clair",
    "Ashdown", "Ravenscroft", "Linden", "Primrose",
)  # fmt: skip
STYLES = ("rustic", "classic", "modern", "bohemian", "industrial", "garden")
AMENITIES = ("parking", "garden", "dance floor", "bridal suite", "wifi", "fireplace", "terrace", "chapel")

CATEGORIES = (
    "photography", "videography", "catering", "florist", "music", "cake",
    "hair and make-up", "transport", "stationery", "celebrant",
)  # fmt: skip
CATEGORY_COSTS = (1800, 1500, 4200, 1200, 1400, 550, 450, 600, 350, 500)
VENDOR_NAMES = (
    "Golden Hour", "Wild Fig", "Ever After", "Paper Moon", "Honey & Thyme", "Velvet", "First Dance", "Olive Branch",
    "Confetti", "Lumen", "Peony", "Sugar Loft", "Still Life", "True North", "Magnolia", "O'Hara's",
)  # fmt: skip
VENDOR_KINDS = ("Studio", "Collective", "& Co.", "Atelier", "Weddings", "House", "Company", "Works")
PACKAGES = ("essential", "classic", "premium", "signature", "bespoke")

FIRST_NAMES = (
    "Emma", "Noah", "Olivia", "Liam", "Sofia", "Luca", "Chloé", "Hugo", "Mia", "Leon", "Hannah", "Jonas", "Isla",
    "Finn", "Aoife", "Cian", "Giulia", "Matteo", "Inês", "Tiago", "Carmen", "Diego", "Astrid", "Nils", "Zoë", "Max",
    "Amara", "Kwame", "Priya", "Arjun", "Mei", "Kenji", "Leila", "Omar", "Ana", "Pavel", "Ruth", "Samuel", "Grace",
    "Björn",
)  # fmt: skip
LAST_NAMES = (
    "Smith", "Rossi", "Müller", "Dubois", "García", "Silva", "Berg", "O'Brien", "Novak", "Kowalski", "Schmidt",
    "Bianchi", "Martin", "Lopez", "Andersson", "Murphy", "Huber", "Meier", "Johnson", "Williams", "Patel", "Okafor",
    "Tanaka", "Chen", "Haddad", "Moreau", "Ferrari", "Weber", "Costa", "Lindqvist", "Walsh", "Taylor", "Nguyen",
    "Fischer", "Romano", "Pereira", "Evans", "Laurent", "Keller", "Navarro",
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org")

DIETS = ("none", "vegetarian", "vegan", "gluten-free", "halal", "kosher", "nut allergy, severe", "no shellfish")
DIET_WEIGHTS = (0.62, 0.13, 0.08, 0.06, 0.04, 0.02, 0.03, 0.02)
NOTES = (
    "So happy for you both!",
    "We arrive on Friday, late.",
    'Please play "Dancing Queen".',
    "Two children, ages 3 and 5;\nneed a high chair.",
    "Coming by train,\nneed a lift from the station, please.",
    "Ground floor, if at all possible.",
)
