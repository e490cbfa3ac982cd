//! Common names and invented places.

/// Given and family names that are common among people of one origin.
pub(crate) struct Origin {
    pub(crate) female: &'static [&'static str],
    pub(crate) male: &'static [&'static str],
    pub(crate) family: &'static [&'static str],
    /// BCP 47 tags of the languages spoken at home, with weights.
    pub(crate) languages: &'static [(&'static str, u32)],
}

const ENGLISH: Origin = Origin {
    female: &[
        "Mary",
        "Dorothy",
        "Helen",
        "Margaret",
        "Ruth",
        "Virginia",
        "Elizabeth",
        "Barbara",
        "Patricia",
        "Susan",
        "Linda",
        "Nancy",
        "Carol",
        "Judith",
        "Frances",
        "Alice",
        "Joan",
        "Beverly",
        "Shirley",
        "Diane",
        "Karen",
        "Emily",
        "Hannah",
        "Olivia",
        "Grace",
        "Abigail",
        "Charlotte",
        "Eleanor",
        "Florence",
        "Harriet",
    ],
    male: &[
        "James", "Robert", "John", "William", "Richard", "Charles", "Donald", "George", "Kenneth",
        "Edward", "Thomas", "Walter", "Harold", "Raymond", "Albert", "Arthur", "Frank", "Ralph",
        "Stanley", "Gerald", "Douglas", "Peter", "Henry", "Samuel", "Oliver", "Jack", "Daniel",
        "Matthew", "Andrew", "Stephen",
    ],
    family: &[
        "Smith",
        "Johnson",
        "Brown",
        "Davis",
        "Miller",
        "Wilson",
        "Moore",
        "Taylor",
        "Anderson",
        "Thomas",
        "Jackson",
        "Harris",
        "Martin",
        "Thompson",
        "Robinson",
        "Clark",
        "Lewis",
        "Walker",
        "Hall",
        "Allen",
        "Wright",
        "Scott",
        "Green",
        "Baker",
        "Adams",
        "Nelson",
        "Carter",
        "Mitchell",
        "Parker",
        "Collins",
        "Whitfield",
        "Ashworth",
    ],
    languages: &[("en", 1)],
};

const HISPANIC: Origin = Origin {
    female: &[
        "María",
        "Carmen",
        "Rosa",
        "Ana",
        "Guadalupe",
        "Luz",
        "Teresa",
        "Gloria",
        "Elena",
        "Isabel",
        "Yolanda",
        "Sofía",
        "Lucía",
        "Camila",
        "Pilar",
    ],
    male: &[
        "José",
        "Luis",
        "Carlos",
        "Juan",
        "Manuel",
        "Jesús",
        "Miguel",
        "Antonio",
        "Ramón",
        "Francisco",
        "Rafael",
        "Hector",
        "Diego",
        "Mateo",
        "Enrique",
    ],
    family: &[
        "García",
        "Martínez",
        "Rodríguez",
        "López",
        "Hernández",
        "González",
        "Pérez",
        "Sánchez",
        "Ramírez",
        "Torres",
        "Flores",
        "Rivera",
        "Gómez",
        "Díaz",
        "Cruz",
        "Morales",
        "Ortiz",
        "Vásquez",
    ],
    languages: &[("es", 3), ("en", 2)],
};

const AFRICAN: Origin = Origin {
    female: &[
        "Adaeze",
        "Amina",
        "Ngozi",
        "Folake",
        "Abena",
        "Efua",
        "Zainab",
        "Wanjiru",
        "Denise",
        "Yvonne",
        "Monique",
        "Gladys",
        "Loretta",
        "Ernestine",
    ],
    male: &[
        "Chukwuemeka",
        "Kwame",
        "Kofi",
        "Oluwaseun",
        "Ibrahim",
        "Tunde",
        "Babatunde",
        "Jomo",
        "Darnell",
        "Marcus",
        "Leroy",
        "Clarence",
        "Reginald",
        "Isaiah",
    ],
    family: &[
        "Okafor",
        "Adeyemi",
        "Mensah",
        "Owusu",
        "Eze",
        "Nwosu",
        "Diallo",
        "Kamau",
        "Washington",
        "Jefferson",
        "Booker",
        "Freeman",
        "Gaines",
        "Banks",
        "Boateng",
    ],
    languages: &[("en", 6), ("fr", 1)],
};

const CHINESE: Origin = Origin {
    female: &[
        "Mei", "Li Hua", "Xiu Ying", "Fang", "Lan", "Jing", "Yan", "Hui", "Na", "Qing",
    ],
    male: &[
        "Wei",
        "Jun",
        "Guo Qiang",
        "Ming",
        "Jian",
        "Hao",
        "Lei",
        "Tao",
        "Bo",
        "Zhi",
    ],
    family: &[
        "Wang", "Li", "Zhang", "Liu", "Chen", "Yang", "Huang", "Zhao", "Wu", "Zhou", "Lin", "Guo",
    ],
    languages: &[("zh", 3), ("en", 2)],
};

const INDIAN: Origin = Origin {
    female: &[
        "Lakshmi", "Priya", "Sunita", "Anjali", "Meena", "Kavita", "Radha", "Shanti", "Usha",
        "Deepa",
    ],
    male: &[
        "Rajesh", "Suresh", "Anil", "Vijay", "Ramesh", "Arjun", "Sanjay", "Mohan", "Prakash",
        "Harish",
    ],
    family: &[
        "Patel", "Sharma", "Singh", "Kumar", "Gupta", "Reddy", "Iyer", "Nair", "Joshi", "Mehta",
        "Rao", "Desai",
    ],
    languages: &[("en", 3), ("hi", 1)],
};

const GERMAN_AND_POLISH: Origin = Origin {
    female: &[
        "Ingrid", "Helga", "Ursula", "Käthe", "Gisela", "Zofia", "Halina", "Krystyna", "Jadwiga",
        "Renate",
    ],
    male: &[
        "Jürgen",
        "Heinz",
        "Günther",
        "Werner",
        "Klaus",
        "Stanisław",
        "Tadeusz",
        "Zbigniew",
        "Janusz",
        "Otto",
    ],
    family: &[
        "Müller",
        "Schröder",
        "Weber",
        "Wagner",
        "Becker",
        "Hoffmann",
        "Kowalski",
        "Nowak",
        "Wiśniewski",
        "Lewandowski",
        "Zieliński",
        "Krüger",
    ],
    languages: &[("en", 8), ("pl", 1), ("de", 1)],
};

const ARABIC: Origin = Origin {
    female: &[
        "Fatima", "Layla", "Mariam", "Noor", "Hala", "Samira", "Yasmin", "Rania", "Amal",
    ],
    male: &[
        "Mohammed", "Ahmed", "Omar", "Youssef", "Khalid", "Hassan", "Karim", "Tariq", "Samir",
    ],
    family: &[
        "Haddad", "Khoury", "Mansour", "Nasser", "Saleh", "Rahman", "Farouk", "Aziz", "Hamdan",
        "Sayegh",
    ],
    languages: &[("ar", 2), ("en", 3)],
};

const VIETNAMESE: Origin = Origin {
    female: &[
        "Lan Anh", "Thuy", "Huong", "Mai", "Ngoc", "Hanh", "Linh", "Phuong",
    ],
    male: &[
        "Minh", "Tuan", "Duc", "Hung", "Long", "Quang", "Thanh", "Viet",
    ],
    family: &[
        "Nguyen", "Tran", "Pham", "Hoang", "Phan", "Vu", "Dang", "Bui", "Do", "Ngo",
    ],
    languages: &[("vi", 3), ("en", 2)],
};

/// Origins with their weights: a mixed town, no country's census.
pub(crate) const ORIGINS: &[(&Origin, u32)] = &[
    (&ENGLISH, 52),
    (&HISPANIC, 16),
    (&AFRICAN, 12),
    (&CHINESE, 5),
    (&INDIAN, 5),
    (&GERMAN_AND_POLISH, 5),
    (&ARABIC, 3),
    (&VIETNAMESE, 2),
];

/// Invented towns and their invented ZIP codes.
pub(crate) const TOWNS: &[(&str, &str)] = &[
    ("Ashbrook", "01991"),
    ("Millhaven", "01992"),
    ("Northmoor", "01993"),
    ("Pinecrest Falls", "01994"),
    ("Saltmarsh", "01995"),
    ("Tilbury Green", "01996"),
    ("Wexcombe", "01997"),
    ("Elmsworth", "01998"),
];

pub(crate) const STREETS: &[&str] = &[
    "Alder Street",
    "Beacon Road",
    "Cedar Avenue",
    "Chapel Lane",
    "Dogwood Drive",
    "Elm Street",
    "Foundry Road",
    "Garden Terrace",
    "Harbor View",
    "Hillside Avenue",
    "Juniper Way",
    "Lakeshore Drive",
    "Maple Street",
    "Meadow Lane",
    "Orchard Road",
    "Poplar Court",
    "Quarry Road",
    "River Street",
    "School Street",
    "Walnut Avenue",
];

/// Area codes of the north-eastern United States; with 555-01xx the numbers are kept for fiction.
pub(crate) const AREA_CODES: &[&str] = &[
    "339", "351", "413", "508", "617", "774", "781", "857", "978",
];

/// The letters of a name as an e-mail address can have them.
pub(crate) fn ascii(name: &str) -> String {
    name.chars()
        .filter_map(|letter| match letter {
            'á' | 'ä' | 'Á' => Some('a'),
            'é' | 'É' => Some('e'),
            'í' | 'Í' => Some('i'),
            'ó' | 'ö' | 'Ó' => Some('o'),
            'ú' | 'ü' | 'Ú' => Some('u'),
            'ñ' | 'ń' => Some('n'),
            'ł' => Some('l'),
            'ś' => Some('s'),
            other if other.is_ascii_alphanumeric() => Some(other.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
