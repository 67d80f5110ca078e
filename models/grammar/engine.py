"""The grammar engine: reads the lexicon and the scene lines, and expands them.

Notation of a phrase (lexicon entries and scene lines alike):

    [a|b|]      one of the alternatives (the empty one included)
    {a|b|}      the same, but a mere modifier (clothing, age, colour): it is
                left out of the key that limits near-duplicates
    *3 a        at the start of an alternative or a line: weight 3
    <name>      an entry of the lexicon class `name`; if the class has a
                variant for the subject's feature (`wear.f`), that one
    noun#m      the noun's agreement feature: m man, f woman, n person of
                unstated gender, a animal or thing, p plural, g a group
                that takes a singular verb ('a couple is'). The first one in
                a caption is the subject; later ones are ignored
    ^run        a verb that agrees with the subject, in the caption's style:
                'is running', 'runs' or (as a noun phrase) 'running'
                (a compound is written ice_skate, inflected at its end)
    ^+run       a second verb that shares the auxiliary ('... and running')
    $his $him   pronouns that agree with the subject

A scene line describes one kind of photograph. Selectional constraints live in
the line itself and in the narrow classes that it names: only what can be seen
together is written together, so nothing odd has to be filtered out afterwards.
"""

import re

VOWEL_AN = re.compile(r"^(?:[aeiou]|hour|honest)", re.I)
# Spelt with a vowel, spoken with a consonant.
CONSONANT_A = re.compile(r"^(?:uni(?!nt)|use|usu|eu|one|ukulele|u-)", re.I)

DOUBLING = set(
    "run sit swim jog chop pet hit put set cut get clap hug skip dig grab pat plug grin "
    "spin stop step flip shop wrap mop rub wag dip trot drag slip tip hop snap strum drum "
    "scrub chat nap plan sip zip stir knit sled travel let shut unzip unplug tap pin tug "
    "nod control squat spar pedal snorkel rappel peg win trim rap beg skim bat".split()
)
IRREGULAR_S = {"have": "has", "do": "does", "go": "goes", "be": "is"}
IRREGULAR_ING = {"lie": "lying", "tie": "tying", "be": "being", "ski": "skiing"}
# States, which English does not put into the continuous.
STATIVE = {"have", "contain", "say", "lead", "show", "belong", "need", "seem"}


def third_person(verb):
    """'carry' -> 'carries'."""
    if verb in IRREGULAR_S:
        return IRREGULAR_S[verb]
    if re.search(r"(s|x|z|ch|sh|o)$", verb):
        return verb + "es"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def participle(verb):
    """'ride' -> 'riding', 'run' -> 'running'."""
    if verb in IRREGULAR_ING:
        return IRREGULAR_ING[verb]
    if verb in DOUBLING:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + "ing"


PRONOUNS = {
    "his": {"m": "his", "f": "her", "n": "their", "a": "its", "p": "their"},
    "him": {"m": "him", "f": "her", "n": "them", "a": "it", "p": "them"},
    "self": {"m": "himself", "f": "herself", "n": "themselves", "a": "itself", "p": "themselves"},
}

TOKEN = re.compile(r"[\[\]{}|]|<[\w.]+>|\^\+?[\w-]+|\$\w+|#[mfnapg]\b|\*\d+|[^\[\]{}|<>^$#*]+")


class Phrase:
    """A parsed phrase: a sequence of parts, each a tuple (kind, ...)."""

    def __init__(self, text):
        # '^[run|walk fast]' is short for '[^run|^walk fast]'.
        text = re.sub(
            r"(\^\+?)\[([^\[\]]*)\]",
            lambda m: "[" + "|".join(m[1] + v for v in m[2].split("|")) + "]",
            text,
        )
        self.tokens = TOKEN.findall(text)
        if "".join(self.tokens).replace(" ", "") != text.replace(" ", ""):
            raise ValueError("cannot read: " + text)
        self.at = 0
        self.root = self._choice(None)
        if self.at != len(self.tokens):
            raise ValueError("unbalanced: " + text)

    def _choice(self, closing):
        branches, parts, weight = [], [], 1
        while True:
            token = self.tokens[self.at] if self.at < len(self.tokens) else None
            if token is None or token == closing or token == "|":
                branches.append((weight, parts))
                if token != "|":
                    if token != closing:
                        raise ValueError("unclosed bracket in " + "".join(self.tokens))
                    break
                parts, weight = [], 1
                self.at += 1
                continue
            self.at += 1
            if token in "[{":
                close = "]" if token == "[" else "}"
                inner = self._choice(close)
                self.at += 1
                parts.append(("alt", inner, token == "{"))
            elif token in "]}":
                raise ValueError("stray %s in %s" % (token, "".join(self.tokens)))
            elif token[0] == "<":
                parts.append(("ref", token[1:-1]))
            elif token[0] == "^":
                parts.append(("verb", token.lstrip("^+"), token.startswith("^+")))
            elif token[0] == "$":
                parts.append(("pronoun", token[1:]))
            elif token[0] == "#":
                parts.append(("feature", token[1]))
            elif token[0] == "*":
                weight = int(token[1:])
            else:
                parts.append(("text", token))
        cumulative, total = [], 0
        for w, p in branches:
            total += w
            cumulative.append((total, p))
        return total, cumulative


def read_lexicon(text):
    """'name: phrase' lines; a line that starts with blanks continues the last."""
    classes, name = {}, None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("//"):
            continue
        if line[0].isspace():
            classes[name] += " " + line.strip()
            continue
        name, phrase = line.split(":", 1)
        if name in classes:
            raise ValueError("twice in the lexicon: " + name)
        classes[name] = phrase.strip()
    return {k: Phrase(v).root for k, v in classes.items()}


def read_scenes(text):
    """'== topic quota' headings, each followed by scene lines (weight, phrase)."""
    topics, current = {}, None
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("//"):
            continue
        if line.startswith("=="):
            _, name, quota = line.split()
            current = topics.setdefault(name, [int(quota), []])[1]
            continue
        weight = 1
        head = re.match(r"\*(\d+)\s+", line)
        if head:
            weight, line = int(head.group(1)), line[head.end():]
        current.append((weight, Phrase(line).root, line))
    return topics


class Expander:
    """Draws captions from scene lines. One random state, so one seed."""

    def __init__(self, lexicon, rng):
        self.lexicon, self.rng = lexicon, rng

    def _pick(self, choice):
        total, branches = choice
        if total == 1 or len(branches) == 1:
            return branches[0][1]
        x = self.rng.random() * total
        for bound, parts in branches:
            if x < bound:
                return parts
        return branches[-1][1]

    def _expand(self, parts, out):
        for part in parts:
            kind = part[0]
            if kind == "text":
                out.append(part[1])
            elif kind == "alt":
                if part[2]:
                    out.append("\x01")
                self._expand(self._pick(part[1]), out)
                if part[2]:
                    out.append("\x02")
            elif kind == "ref":
                name = part[1]
                special = "%s.%s" % (name, "p" if self.feature == "g" else self.feature)
                choice = self.lexicon.get(special) or self.lexicon.get(name)
                if choice is None:
                    raise ValueError("not in the lexicon: " + name)
                self._expand(self._pick(choice), out)
            elif kind == "feature":
                if self.feature is None:
                    self.feature = part[1]
            elif kind == "pronoun":
                feature = "p" if self.feature == "g" else self.feature
                out.append(PRONOUNS[part[1]][feature or "a"])
            else:
                out.append(self._verb(part[1], part[2]))

    def _verb(self, verb, coordinate):
        plural = self.feature == "p"
        if verb == "be":
            if self.style == "bare" or coordinate:
                return ""
            return "are" if plural else "is"
        if self.style == "simple" or verb in STATIVE:
            return verb if plural else third_person(verb)
        if self.style == "bare" or coordinate:
            return participle(verb)
        return ("are " if plural else "is ") + participle(verb)

    def draw(self, choice):
        """One caption and its core (the caption without its modifiers)."""
        self.feature = None
        x = self.rng.random()
        self.style = "progressive" if x < 0.42 else "simple" if x < 0.78 else "bare"
        out = []
        self._expand(self._pick(choice), out)
        raw = "".join(out)
        core, nested = raw, True
        while nested:
            core, nested = re.subn(r"\x01[^\x01\x02]*\x02", " ", core)
        raw = raw.replace("\x01", "").replace("\x02", "")
        return tidy(raw), core.replace("\x01", "").replace("\x02", "")


def tidy(raw):
    """Blanks, commas, a or an, the capital."""
    words = raw.replace(" ,", ",").replace("_", " ").split()
    for i in range(len(words) - 1):
        if words[i] in ("a", "an", "A", "An"):
            following = words[i + 1]
            vowel = VOWEL_AN.match(following) and not CONSONANT_A.match(following)
            words[i] = "an" if vowel else "a"
    text = " ".join(words)
    return text[:1].upper() + text[1:]
