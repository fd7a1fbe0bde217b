"""The vocabulary of the generated shop's catalogue. Brands, lines and series are fictitious."""

from typing import NamedTuple


class Part(NamedTuple):
    category: str
    noun: str
    price: float
    """Typical price; the brand and the line vary it."""


class Kit(NamedTuple):
    """Products that are bought one after another: the body before the lens, the printer before its ink."""

    department: str
    lines: tuple[str, ...]
    parts: tuple[Part, ...]


class Series(NamedTuple):
    """Numbered volumes that are read, watched or played in order."""

    department: str
    category: str
    openings: tuple[str, ...]
    endings: tuple[str, ...]
    volume: str
    price: float


BRANDS = (
    "Norvane",
    "Halden",
    "Ostra",
    "Pellworth",
    "Kestrel",
    "Auralis",
    "Brightmoor",
    "Tavio",
    "Lumenfold",
    "Cedarline",
    "Vantry",
    "Mirelle",
    "Stonebeck",
    "Okari",
    "Fenwick & Rye",
    "Solvane",
    "Juniper Hill",
    "Arcto",
    "Bellmont",
    "Draycott",
    "Evenfall",
    "Greywether",
    "Harrowgate",
    "Ironbark",
    "Koventry",
    "Larkspur",
    "Mossbrook",
    "Northlight",
    "Oakhurst",
    "Pinecrest",
)

KITS = (
    Kit(
        "Electronics",
        ("Halo", "Vista", "Prisma", "Field"),
        (
            Part("Cameras", "Mirrorless Camera", 1190),
            Part("Lenses", "35mm Prime Lens", 420),
            Part("Lenses", "70-200mm Zoom Lens", 890),
            Part("Camera Accessories", "Carbon Tripod", 160),
            Part("Camera Accessories", "Camera Sling Bag", 70),
        ),
    ),
    Kit(
        "Electronics",
        ("EventLoopLag", "Aria", "Quiet", "Tempo"),
        (
            Part("Headphones", "Wireless Headphones", 220),
            Part("Headphones", "Replacement Ear Pads", 24),
            Part("Audio", "Bluetooth Speaker", 130),
            Part("Audio", "Soundbar", 310),
        ),
    ),
    Kit(
        "Electronics",
        ("Slate", "Nova", "Orbit", "Flux"),
        (
            Part("Laptops", "14-inch Laptop", 980),
            Part("Computer Accessories", "USB-C Docking Station", 150),
            Part("Computer Accessories", "27-inch Monitor", 330),
            Part("Computer Accessories", "Mechanical Keyboard", 110),
            Part("Computer Accessories", "Laptop Sleeve", 35),
        ),
    ),
    Kit(
        "Office",
        ("Swift", "Clarity", "Ledger"),
        (
            Part("Printers", "Inkjet Printer", 140),
            Part("Ink & Paper", "Black Ink Cartridge", 26),
            Part("Ink & Paper", "Colour Ink Set", 54),
            Part("Ink & Paper", "Photo Paper, 100 Sheets", 18),
        ),
    ),
    Kit(
        "Office",
        ("Studio", "Atelier", "Draft"),
        (
            Part("Desks", "Standing Desk", 460),
            Part("Chairs", "Ergonomic Chair", 340),
            Part("Desk Accessories", "Monitor Arm", 85),
            Part("Desk Accessories", "LED Desk Lamp", 49),
        ),
    ),
    Kit(
        "Office",
        ("Margin", "Quill", "Folio"),
        (
            Part("Writing", "Fountain Pen", 58),
            Part("Writing", "Bottled Ink, 50 ml", 16),
            Part("Notebooks", "Dotted Notebook", 19),
            Part("Notebooks", "Leather Notebook Cover", 42),
        ),
    ),
    Kit(
        "Kitchen",
        ("Crema", "Barista", "Ritual", "Origin"),
        (
            Part("Coffee", "Espresso Machine", 520),
            Part("Coffee", "Burr Grinder", 180),
            Part("Coffee", "Espresso Beans, 1 kg", 24),
            Part("Coffee", "Milk Frothing Pitcher", 22),
            Part("Coffee", "Descaling Solution", 12),
        ),
    ),
    Kit(
        "Kitchen",
        ("Forge", "Hearth", "Copper"),
        (
            Part("Cookware", "Cast Iron Skillet", 62),
            Part("Cookware", "Dutch Oven", 145),
            Part("Cookware", "Silicone Utensil Set", 28),
            Part("Cookware", "Chainmail Scrubber", 17),
        ),
    ),
    Kit(
        "Kitchen",
        ("Levain", "Miller", "Crumb"),
        (
            Part("Baking", "Stand Mixer", 340),
            Part("Baking", "Proofing Basket", 21),
            Part("Baking", "Bread Flour, 5 kg", 14),
            Part("Baking", "Bread Lame", 13),
        ),
    ),
    Kit(
        "Kitchen",
        ("Damask", "Edge", "Santoku"),
        (
            Part("Knives", "Chef's Knife", 120),
            Part("Knives", "Whetstone", 44),
            Part("Knives", "End-Grain Cutting Board", 78),
            Part("Knives", "Magnetic Knife Rack", 39),
        ),
    ),
    Kit(
        "Outdoor",
        ("Ridge", "Tarn", "Summit", "Drift"),
        (
            Part("Tents", "Two-Person Tent", 280),
            Part("Sleeping Gear", "Down Sleeping Bag", 210),
            Part("Sleeping Gear", "Insulated Sleeping Pad", 120),
            Part("Camp Kitchen", "Canister Stove", 55),
            Part("Camp Kitchen", "Titanium Cook Set", 68),
        ),
    ),
    Kit(
        "Outdoor",
        ("Trail", "Fell", "Cairn"),
        (
            Part("Hiking", "Hiking Boots", 165),
            Part("Hiking", "Merino Hiking Socks", 22),
            Part("Hiking", "Trekking Poles", 84),
            Part("Hiking", "Daypack 24L", 95),
        ),
    ),
    Kit(
        "Outdoor",
        ("Gravel", "Sprint", "Commuter"),
        (
            Part("Cycling", "Cycling Helmet", 92),
            Part("Cycling", "Bike Light Set", 58),
            Part("Cycling", "Floor Pump", 46),
            Part("Cycling", "Chain Lube", 11),
            Part("Cycling", "Inner Tube, Pair", 15),
        ),
    ),
    Kit(
        "Home",
        ("Haven", "Calm", "Linnet"),
        (
            Part("Bedding", "Linen Duvet Cover", 130),
            Part("Bedding", "Pillowcase Pair", 38),
            Part("Bedding", "Wool Throw", 88),
            Part("Bedding", "Blackout Curtains", 74),
        ),
    ),
    Kit(
        "Home",
        ("Signal", "Beacon", "Relay"),
        (
            Part("Smart Home", "Smart Hub", 99),
            Part("Smart Home", "Smart Bulb, 4-Pack", 52),
            Part("Smart Home", "Motion Sensor", 29),
            Part("Smart Home", "Video Doorbell", 145),
        ),
    ),
    Kit(
        "Garden",
        ("Verge", "Thicket", "Orchard"),
        (
            Part("Growing", "Raised Bed Kit", 98),
            Part("Growing", "Potting Soil, 40 L", 16),
            Part("Growing", "Heirloom Seed Set", 18),
            Part("Garden Tools", "Pruning Shears", 34),
            Part("Garden Tools", "Drip Watering Kit", 48),
        ),
    ),
    Kit(
        "Music",
        ("Delta", "Parlour", "Canyon"),
        (
            Part("Guitars", "Acoustic Guitar", 340),
            Part("Guitar Accessories", "Phosphor Bronze Strings", 13),
            Part("Guitar Accessories", "Clip-On Tuner", 17),
            Part("Guitar Accessories", "Guitar Gig Bag", 62),
        ),
    ),
    Kit(
        "Music",
        ("Circuit", "Monolith", "Vapor"),
        (
            Part("Synths", "Analog Synthesizer", 640),
            Part("Recording", "Audio Interface", 170),
            Part("Recording", "Condenser Microphone", 210),
            Part("Recording", "Studio Monitor Pair", 330),
        ),
    ),
    Kit(
        "Pets",
        ("Scout", "Whisker", "Bramble"),
        (
            Part("Dogs", "Dog Harness", 39),
            Part("Dogs", "Training Treats", 9),
            Part("Dogs", "Orthopedic Dog Bed", 86),
            Part("Dogs", "Retractable Leash", 27),
        ),
    ),
    Kit(
        "Pets",
        ("Tabby", "Mouser", "Sill"),
        (
            Part("Cats", "Cat Tree", 110),
            Part("Cats", "Sisal Scratching Post", 42),
            Part("Cats", "Feather Wand", 12),
            Part("Cats", "Clumping Litter, 10 kg", 17),
        ),
    ),
)

SERIES = (
    Series(
        "Books",
        "Fantasy",
        ("The Lantern", "The Salt", "A Crown of", "The Hollow", "Ashes of"),
        ("Keepers", "Witches", "Thorns", "Kings", "Winter"),
        "Book",
        15,
    ),
    Series(
        "Books",
        "Mystery",
        ("Inspector Vale:", "The Harbour Street", "The Widow's", "The Ninth"),
        ("Silence", "Verdict", "Inheritance", "Alibi"),
        "Case",
        13,
    ),
    Series(
        "Books",
        "Science Fiction",
        ("Beyond", "Return to", "Children of", "Signal from"),
        ("the Drift", "the Frontier", "Europa", "Meridian"),
        "Book",
        16,
    ),
    Series(
        "Books",
        "Romance",
        ("Letters from", "The Bakery in", "A Summer in", "Coming Home to"),
        ("Larkspur Lane", "Willow Bay", "Amalfi", "Saltmarsh Cove"),
        "Part",
        12,
    ),
    Series(
        "Books",
        "History",
        ("A Short History of", "Empires of", "Voices of", "The Road Across"),
        ("the Sea Routes", "the Steppe", "the Black Sea", "the Silk Roads"),
        "Volume",
        24,
    ),
    Series(
        "Comics",
        "Manga",
        ("Paper", "Iron", "Moonlit", "Stray"),
        ("Samurai", "Alchemist", "Delivery", "Courier"),
        "Vol.",
        10,
    ),
    Series(
        "Comics",
        "Graphic Novels",
        ("Captain", "The Midnight", "Neon", "Doctor"),
        ("Solstice", "Menagerie", "Detective", "Paradox"),
        "Issue",
        14,
    ),
    Series(
        "Film & TV",
        "Drama Series",
        ("The House on", "The Road to", "Back to", "North of"),
        ("the Estuary", "Montague Street", "the Moor", "Saint Agnes Hill"),
        "Season",
        28,
    ),
    Series(
        "Film & TV",
        "Crime Series",
        ("Cold", "Dead", "Low", "Last"),
        ("Harbour", "Reckoning", "Tide", "Witness"),
        "Season",
        26,
    ),
    Series(
        "Games",
        "Role-Playing Games",
        ("Legends of", "Shards of", "Echoes of", "Oath of"),
        ("Aldermoor", "the Deep", "Starfall", "Embers"),
        "Chapter",
        49,
    ),
    Series(
        "Games",
        "Strategy Games",
        ("Age of", "Rise of", "Galactic", "Tiny"),
        ("Harbours", "Guilds", "Concord", "Railways"),
        "Part",
        39,
    ),
    Series(
        "Games",
        "Board Games",
        ("Caravans of", "Guildmasters of", "Harvest in", "Secrets of"),
        ("Samarkand", "Lübeck", "Provence", "Kyoto"),
        "Expansion",
        34,
    ),
)
