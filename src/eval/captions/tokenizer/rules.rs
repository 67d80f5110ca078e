//! The tokenizer's rules: patterns in the order of their precedence, each with what becomes of the
//! text it matches. They were written from the Penn Treebank's conventions and from what the Java
//! tokenizer of pycocoevalcap 1.2 was seen to do with millions of probes, not from its source.

/// What becomes of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// One token, as written.
    Keep,
    /// One token, without the last characters, which the rule only looked at.
    KeepBut(usize),
    /// One token, the first characters of the match; the rest is read again.
    First(usize),
    /// A token up to where the given kind of ending begins; the rest is read again.
    Before(Ending),
    /// The same, with plain apostrophes and ampersands.
    PlainBut(usize),
    /// The same, with brackets as in the treebank, and blanks that do not break.
    EscapedBut(usize),
    /// One token of plain quotation marks.
    Quotes,
    /// A fixed token.
    As(&'static str),
    /// A token of punctuation, which scoring leaves out.
    Dropped,
    /// No token.
    Nothing,
}

/// Endings that the treebank splits off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// `n't`.
    Not,
    /// From the last apostrophe: `'s`, `'ll`.
    Apostrophe,
    /// What follows the full stop of an abbreviation: `no. 5`.
    AfterStop,
}

/// Letters that join into words: those of Unicode 6.1's basic plane; later ones are not known to the
/// Java tokenizer, which drops them.
const LETTER: &str = r"[\p{L}&&\p{Age=6.1}&&[\x00-\x{FFFF}]]";
/// Letters and digits.
const ALNUM: &str = r"[[\p{L}\p{Nd}]&&\p{Age=6.1}&&[\x00-\x{FFFF}]]";
/// Marks that may stand in a word. The soft hyphen is among them.
const MARK: &str = r"[\x{AD}\x{2C2}-\x{2C5}\x{2D2}-\x{2DF}\x{2E5}-\x{2EB}\x{2ED}\x{2EF}-\x{36F}\x{375}\x{384}\x{385}\x{3F6}\x{483}-\x{487}\x{55A}-\x{55F}\x{591}-\x{5BD}\x{5BF}\x{5C1}\x{5C2}\x{5C4}\x{5C5}\x{5C7}\x{615}-\x{61A}\x{64B}-\x{65E}\x{670}\x{6D6}-\x{6E4}\x{6E7}-\x{6ED}\x{6FD}\x{6FE}\x{70F}\x{711}\x{730}-\x{74A}\x{7A6}-\x{7B0}\x{7EB}-\x{7F3}\x{900}-\x{903}\x{93C}\x{93E}-\x{94E}\x{951}-\x{955}\x{962}\x{963}\x{981}-\x{983}\x{9BC}\x{9BE}-\x{9C4}\x{9C7}\x{9C8}\x{9CB}-\x{9CD}\x{9D7}\x{9E2}\x{9E3}\x{A01}-\x{A03}\x{A3C}\x{A3E}-\x{A4F}\x{A81}-\x{A83}\x{ABC}\x{ABE}-\x{ACF}\x{B82}\x{BBE}-\x{BC2}\x{BC6}-\x{BC8}\x{BCA}-\x{BCD}\x{C01}-\x{C03}\x{C3E}-\x{C56}\x{D3E}-\x{D44}\x{D46}-\x{D48}\x{E31}\x{E34}-\x{E3A}\x{E47}-\x{E4E}\x{EB1}\x{EB4}-\x{EBC}\x{EC8}-\x{ECD}]";
/// Symbols that are tokens of their own; other characters that no rule names are dropped.
const SYMBOL: &str = r"[$%&*<=>^|~+/\\¥¡¦§¨©¬®¯°±²³´¶·¸¹¿×÷\x{37E}\x{387}\x{589}\x{5BE}\x{5C0}\x{5C3}\x{5C6}\x{5F3}\x{5F4}\x{600}-\x{603}\x{606}-\x{60C}\x{614}\x{61B}\x{61E}\x{61F}\x{66A}\x{66D}\x{6D4}\x{700}-\x{70D}\x{7F6}-\x{7F8}\x{964}\x{965}\x{E3F}\x{E4F}\x{1FBD}\x{2016}\x{2017}\x{201A}\x{201E}-\x{2023}\x{2030}-\x{2038}\x{203B}\x{203E}-\x{2042}\x{2044}\x{2070}\x{2074}-\x{207E}\x{2080}-\x{208E}\x{20A4}\x{2100}\x{2101}\x{2103}-\x{2106}\x{2108}\x{2109}\x{2114}\x{2116}-\x{2118}\x{211E}-\x{2123}\x{2125}\x{2127}\x{2129}\x{212E}\x{213A}\x{213B}\x{2140}-\x{2144}\x{214A}-\x{214D}\x{214F}\x{2155}-\x{215E}\x{2190}-\x{2BFF}\x{3001}\x{3002}\x{3012}\x{30FB}\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}\x{FFE0}\x{FFE1}\x{FFE5}\x{FFE6}]";

/// Abbreviations, written without their full stop, that end a word also before a lower-case letter.
const ABBREVIATION: &str = r"(?i:ph\.d|al|ala|apr|ariz|assn|aug|bhd|bldg|blvd|bros|calif|co|colo|conn|corp|cos|ct|dak|dec|esq|est|etc|ext|feb|fla|fri|ga|inc|ind|intl|jan|jr|jul|jun|kan|kans|ky|ltd|mar|md|mich|minn|mo|mon|mont|neb|nev|nov|oct|okla|penn|plc|rd|rt|sep|sept|seq|sq|sr|sys|tel|tenn|thu|thurs|tue|tues|univ|va|vt|wed|wis|wisc|wyo)|[Pp]p?t[ey]s?|A(?i:rk|z)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?i:a)|T(?i:ex)|W(?i:ash)";
/// Words that begin a sentence.
const STARTERS: &str = "A|A(?i:bout)|A(?i:ccording)|A(?i:dditionally)|A(?i:fter)|A(?i:n)|A(?i:s)|A(?i:t)|B(?i:ut)|E(?i:arlier)|H(?i:e)|H(?i:er)|H(?i:ere)|H(?i:owever)|I(?i:f)|I(?i:n)|I(?i:t)|L(?i:ast)|M(?i:any)|M(?i:ore)|N(?i:ow)|O(?i:nce)|O(?i:ne)|O(?i:ther)|O(?i:ur)|S(?i:he)|S(?i:ince)|S(?i:o)|S(?i:ome)|S(?i:uch)|T(?i:hat)|T(?i:he)|T(?i:heir)|T(?i:hen)|T(?i:here)|T(?i:hese)|T(?i:hey)|T(?i:his)|W(?i:e)|W(?i:hat)|W(?i:hen)|W(?i:hile)|Y(?i:et)|Y(?i:ou)";
/// Titles and the like.
const TITLE: &str = "(?i:adj|adm|adv|alex|assoc|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|drs?|elec|ens|ft|gen|govs?|hon|insp|invt|jos|lieut|lt|maj|messrs|mlle|mme|mrs?|ms|msgr|mt|natl|pfc|ph|pres|profs?|pvt|reps?|rev|sens?|sfc|sgt|spc|ste?|supts?|treas|vs|wm)|[Mm](?:fg|tg)";
/// What may stand for an apostrophe within a word.
const APOSTROPHE: &str = "['\u{92}\u{2019}`\u{91}\u{2018}\u{201B}]";
/// What may stand for the apostrophe of a clitic.
const CLITIC: &str = "['\u{92}\u{2019}]";
/// Blanks within a line.
const BLANK: &str = "[ \t\n\u{A0}\u{2000}-\u{200A}\u{3000}]";
/// What ends an address.
const NO_URL: &str = r#"[^ \t\n\r\x{C}"<>|(){}]"#;

/// The rules, the more specific first: of two matches of the same length the earlier rule's counts.
pub(super) fn rules() -> Vec<(String, Act)> {
    let (l, a, m) = (LETTER, ALNUM, MARK);
    let word = format!("(?:{l}|{m})(?:{a}|{m})*");
    let part = format!("{l}{a}*");
    let prefixed = format!("(?:[dDoOlL]{APOSTROPHE}{a}{a}+|{a}+)");
    let acronym = r"[A-Za-z](?:\.[A-Za-z])+\.";
    let slash_part = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}";
    let last = r#"[^ \t\n\r\x{C}"<>|.!?(){},\-]"#;
    let label = r#"[^ \t\n\r\x{C}\x{A0}"`'<>|.!?(){}$,\-/0-9:;=@A-Z\[\\\]^_]"#;
    let host = r#"[^ \t\n\r\x{C}"<>|.!?(){},]"#;
    let mail = r#"[^ \t\n\r\x{C}"<>|()\x{A0}"#;
    vec![
        // Marks of a text's structure.
        (r"</?[A-Za-z][-A-Za-z0-9_.:]*(?: [^<>\n]*)?/?>|<[!?][^<>\n]+>".into(), Act::EscapedBut(0)),
        ("&(?i:lt);".into(), Act::As("<")),
        ("&(?i:gt);".into(), Act::As(">")),
        ("&(?i:amp);".into(), Act::As("&")),
        ("&(?i:quot|apos|mdash|ndash);".into(), Act::Dropped),
        ("&(?i:nbsp);".into(), Act::Nothing),
        (r"&#\d+;".into(), Act::Keep),
        // Clitics. The word before n't ends where n't begins, whatever follows.
        ("(?i:cannot|gonna|gotta|lemme|gimme|wanna)".into(), Act::First(3)),
        ("(?i:'t(?:is|was))".into(), Act::First(2)),
        (format!("(?:{l}|{m})*[A-MO-Za-mo-z][nN]{APOSTROPHE}[tT]"), Act::Before(Ending::Not)),
        (format!("(?:{l}|{m})+{CLITIC}(?i:[msd]|re|ve|ll)"), Act::Before(Ending::Apostrophe)),
        (format!("[nN]{APOSTROPHE}[tT]"), Act::PlainBut(0)),
        (format!("(?i:{CLITIC}(?:em|til|cause|n{CLITIC}))"), Act::Keep),
        (r"'[nN]\s".into(), Act::KeepBut(1)),
        ("[\u{92}\u{2019}][nN]".into(), Act::Keep),
        (format!("[oO]{APOSTROPHE}[oO]"), Act::Keep),
        (format!("(?i:c'mon|c{CLITIC}est)"), Act::Keep),
        (format!("[dDlLjJ]{CLITIC}"), Act::Keep),
        (format!("[yY]{CLITIC}{l}"), Act::KeepBut(1)),
        (format!("(?i:ol{CLITIC})"), Act::Keep),
        (format!("{CLITIC}(?i:[msd]|re|ve|ll)[^A-Za-z]"), Act::PlainBut(1)),
        // A quotation mark opens before two letters; before one it may be a clitic.
        (format!("'{l}{l}"), Act::First(1)),
        (format!("{CLITIC}(?i:[msd]|re|ve|ll)"), Act::PlainBut(0)),
        // Decades and years.
        (format!("{CLITIC}[0-9]0s"), Act::Keep),
        (format!(r"{CLITIC}[0-9][0-9](?s:\s)"), Act::KeepBut(1)),
        // Addresses.
        (format!("(?i:https?)://{NO_URL}+{last}"), Act::Keep),
        (
            format!(r"(?:(?:{label}+\.)+(?:com|net|org|edu)|www\.(?:{host}+\.)+[a-zA-Z]{{2,4}})(?:/{NO_URL}+{last})?"),
            Act::Keep,
        ),
        (format!(r"<?(?:mailto:)?[A-Za-z0-9]{mail}]*@(?:{mail}.]+\.)*{mail}.]+>?"), Act::Keep),
        ("@[A-Za-z][A-Za-z0-9_]*".into(), Act::Keep),
        (format!("#{l}+"), Act::Keep),
        // Words.
        (word.clone(), Act::Keep),
        (format!("{l}+[aeiouyAEIOUY]{APOSTROPHE}[aeiouA-Z]{l}*"), Act::Keep),
        (format!("[A-HJ-XZn]{APOSTROPHE}{l}{l}+"), Act::Keep),
        (format!("{word}(?:[.!?]{word})+"), Act::Keep),
        // Numbers.
        (r"(?:\(\d{2,3}\)[ \x{A0}]?|\+{0,2}(?:\d{2,4}[- \x{A0}])?\d{2,4}[- \x{A0}])\d{3,4}[- \x{A0}]?\d{3,5}".into(), Act::EscapedBut(0)),
        (r"\+{0,2}(?:\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}".into(), Act::Keep),
        (r"(?:\d{1,4}[- \x{A0}])?\d{1,4}[/\x{2044}]\d{1,4}".into(), Act::EscapedBut(0)),
        (r"[-+]?(?:\p{Nd}+(?:[.,:\x{AD}\x{66B}\x{66C}]\p{Nd}+)*|(?:[.,:\x{AD}\x{66B}\x{66C}]\p{Nd}+)+)".into(), Act::Keep),
        // Abbreviations. The two characters that follow count for the length of the match.
        (format!(r"(?:{ABBREVIATION})\.(?s:..)"), Act::KeepBut(2)),
        (format!(r"(?:{TITLE})\."), Act::Keep),
        (format!(r"(?i:art|ca|figs?|nos?|op|pp|prop)\.{BLANK}?[0-9]"), Act::Before(Ending::AfterStop)),
        (format!(r"(?:{prefixed}(?:[-_]{prefixed})*|{part}(?:\.{part})+)\.[,:;]"), Act::KeepBut(1)),
        (r"[A-Za-z](?:\.[A-Za-z])*\.".into(), Act::Keep),
        // A single letter is the end of a sentence when one of some words begins the next.
        (format!(r"[A-Za-z]\.\s(?:{STARTERS})\s"), Act::First(1)),
        // Compounds.
        (format!(r"{prefixed}(?:[-_\x{{58A}}\x{{2010}}\x{{2011}}]{prefixed})*"), Act::Keep),
        (format!(r"[A-Za-z0-9][A-Za-z0-9.,\x{{AD}}]*(?:-(?:[A-Za-z0-9\x{{AD}}]+|{acronym}))+"), Act::Keep),
        (format!("{slash_part}(?:/{slash_part}){{1,2}}"), Act::Keep),
        ("[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+".into(), Act::PlainBut(0)),
        (r"[cC]\+\+|[cCfF]#".into(), Act::Keep),
        (r"[A-Z]+\$|\\[*/]".into(), Act::Keep),
        // Names of files.
        (format!(r"{a}+\.(?i:jpe?g|png|gif|bmp|pdf|txt|docx?|html?|mp[34]|mov|avi|wav|zip|xml|exe|[chx])[\s.?!,]"), Act::KeepBut(1)),
        // Faces.
        (r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]][^A-Za-z0-9]".into(), Act::EscapedBut(1)),
        (r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)".into(), Act::EscapedBut(0)),
        // Punctuation and symbols.
        (r"\(".into(), Act::As("-lrb-")),
        (r"\)".into(), Act::As("-rrb-")),
        (r"\[".into(), Act::As("-lsb-")),
        (r"\]".into(), Act::As("-rsb-")),
        (r"\{".into(), Act::As("-lcb-")),
        (r"\}".into(), Act::As("-rcb-")),
        ("[?!]".into(), Act::Dropped),
        ("[?!]+".into(), Act::Keep),
        (r"[.,:;]|\.{3,5}|…|\. \. \.".into(), Act::Dropped),
        (r"-{1,4}|[–—―\x{96}\x{97}]".into(), Act::Dropped),
        ("-{5,}".into(), Act::Keep),
        ("[\"'«»‹›‛]|''".into(), Act::Dropped),
        ("[`‘’“”\u{91}-\u{94}]{1,2}".into(), Act::Quotes),
        (r"#+|_+|\*+|@+|<<|>>".into(), Act::Keep),
        ("£".into(), Act::As("#")),
        ("[€¤\u{80}\u{20A0}]".into(), Act::As("$")),
        ("¢".into(), Act::As("cents")),
        ("¼".into(), Act::As("1/4")),
        ("½".into(), Act::As("1/2")),
        ("¾".into(), Act::As("3/4")),
        ("⅓".into(), Act::As("1/3")),
        ("⅔".into(), Act::As("2/3")),
        (SYMBOL.into(), Act::Keep),
    ]
}
