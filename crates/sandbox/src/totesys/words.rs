//! The small lists that names are made of. Letters beyond ASCII are there on purpose, here and there.

/// First names, each with its spelling in an e-mail address.
pub(crate) const FIRST_NAMES: [(&str, &str); 24] = [
    ("Amara", "amara"),
    ("Ben", "ben"),
    ("Chloë", "chloe"),
    ("Dev", "dev"),
    ("Elin", "elin"),
    ("Farid", "farid"),
    ("Grace", "grace"),
    ("Håkon", "hakon"),
    ("Imogen", "imogen"),
    ("José", "jose"),
    ("Keiko", "keiko"),
    ("Łukasz", "lukasz"),
    ("Maeve", "maeve"),
    ("Nadia", "nadia"),
    ("Oskar", "oskar"),
    ("Priya", "priya"),
    ("Quentin", "quentin"),
    ("Renée", "renee"),
    ("Siobhán", "siobhan"),
    ("Tomasz", "tomasz"),
    ("Ursula", "ursula"),
    ("Viktor", "viktor"),
    ("Wren", "wren"),
    ("Zoe", "zoe"),
];

/// Last names, each with its spelling in an e-mail address.
pub(crate) const LAST_NAMES: [(&str, &str); 20] = [
    ("Abara", "abara"),
    ("Bergström", "bergstroem"),
    ("Castillo", "castillo"),
    ("Dunne", "dunne"),
    ("Eastwood", "eastwood"),
    ("Farrow", "farrow"),
    ("Groß", "gross"),
    ("Hartley", "hartley"),
    ("Ito", "ito"),
    ("Jovanović", "jovanovic"),
    ("Kaur", "kaur"),
    ("Lindqvist", "lindqvist"),
    ("Marsh", "marsh"),
    ("Nwosu", "nwosu"),
    ("O'Keefe", "okeefe"),
    ("Pemberton", "pemberton"),
    ("Rahman", "rahman"),
    ("Sørensen", "soerensen"),
    ("Tran", "tran"),
    ("Whitlock-Vane", "whitlock.vane"),
];

/// Words of company names.
pub(crate) const COMPANY_WORDS: [&str; 20] = [
    "Harbour",
    "Larkspur",
    "Bramble",
    "Castellan",
    "Fennel",
    "Northgate",
    "Müller",
    "Quayside",
    "Saltmarsh",
    "Thimble",
    "Verdant",
    "Windrush",
    "Copperfield",
    "Groß",
    "Juniper",
    "Kestrel",
    "Loom",
    "Meridian",
    "Café Noir",
    "Oak & Elm",
];

/// What follows them.
pub(crate) const COMPANY_FORMS: [&str; 8] =
    ["Ltd", "and Daughters", "GmbH", "Inc", "Trading Co.", "& Söhne", "Group PLC", "Retail"];

/// Names that are hard to carry: quotes and commas, an emoji, text that runs from right to left, a backslash.
pub(crate) const HARD_NAMES: [&str; 4] =
    ["\"Best\" Totes, Inc.", "Sunny Bags 🌞 Ltd", "شركة النور", "Back\\slash & Sons"];

/// Cities with country and the shape of a postal code (`A` a letter, `9` a digit).
pub(crate) const CITIES: [(&str, &str, &str); 14] = [
    ("Manchester", "United Kingdom", "M9 9AA"),
    ("Leeds", "United Kingdom", "LS9 9AA"),
    ("Bristol", "United Kingdom", "BS9 9AA"),
    ("Glasgow", "United Kingdom", "G9 9AA"),
    ("Dublin", "Ireland", "D99 AA99"),
    ("Köln", "Germany", "99999"),
    ("Lyon", "France", "99999"),
    ("København", "Denmark", "9999"),
    ("Łódź", "Poland", "99-999"),
    ("Porto", "Portugal", "9999-999"),
    ("Zürich", "Switzerland", "9999"),
    ("Toronto", "Canada", "A9A 9A9"),
    ("Portland", "United States of America", "99999"),
    ("Wellington", "New Zealand", "9999"),
];

/// Streets.
pub(crate) const STREETS: [&str; 14] = [
    "Mill Lane",
    "Station Road",
    "Canal Street",
    "Orchard Close",
    "Weaver's Row",
    "Königstraße",
    "High Street",
    "The Cut",
    "Foundry Yard",
    "Rue de l'Église",
    "Harbour View",
    "Elm Grove",
    "Market Square",
    "Dyers' Walk",
];

/// Second lines of addresses.
pub(crate) const UNITS: [&str; 5] = ["Unit 4", "Flat 12b", "2nd floor", "Suite 300", "c/o Reception"];

/// Districts.
pub(crate) const DISTRICTS: [&str; 6] =
    ["Old Town", "Docklands", "North Quarter", "Altstadt", "Riverside", "St. Anne's"];

/// Adjectives of designs.
pub(crate) const DESIGN_ADJECTIVES: [&str; 12] = [
    "Quiet", "Bright", "Folded", "Striped", "Velvet", "Midnight", "Crème", "Rustic", "Electric", "Paper", "Golden",
    "Plain",
];

/// Nouns of designs.
pub(crate) const DESIGN_NOUNS: [&str; 12] =
    ["Heron", "Lemon", "Tide", "Ladder", "Fern", "Bicycle", "Moth", "Compass", "Tulip", "Façade", "Otter", "Orbit"];

/// Departments: name, location, manager.
pub(crate) const DEPARTMENTS: [(&str, Option<&str>, Option<&str>); 8] = [
    ("Sales", Some("Manchester"), Some("Grace Hartley")),
    ("Purchasing", Some("Manchester"), Some("Viktor Ito")),
    ("Production", Some("Leeds"), Some("Priya Kaur")),
    ("Dispatch", Some("Leeds"), Some("Håkon Sørensen")),
    ("Finance", Some("Manchester"), None),
    ("Facilities", None, Some("Maeve Dunne")),
    ("Communications", Some("Bristol"), Some("Renée Castillo")),
    ("People", None, None),
];

/// The currencies of the history, by id from 1.
pub(crate) const CURRENCIES: [&str; 7] = ["GBP", "USD", "EUR", "CHF", "JPY", "CAD", "PLN"];

/// The currencies that later days add, one by one. The last is in no list of ISO 4217.
pub(crate) const LATER_CURRENCIES: [&str; 6] = ["SEK", "AUD", "DKK", "NZD", "INR", "QQQ"];

/// The payment types, by id from 1.
pub(crate) const PAYMENT_TYPES: [&str; 4] = ["SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND"];
