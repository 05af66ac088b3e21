"""Names of controls, and of cells without a known perturbation: one list for labels, guides and loaders.

Controls are numbered (``NTC_1``), prefixed (``sgNegCtrl2``) and spelled (``non-targeting``, ``NO_TARGET``) in many
ways, so a name is compared word by word. A name is a control if it consists of words of controls, of words that go
with guides, and of numbers: ``NEGR1`` and ``SAFB`` are genes. A few names are usual for controls and are symbols of
genes as well (``CTRL``, ``NT3``); these are doubtful, and whoever has more knowledge decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

Control: TypeAlias = str | Sequence[str] | None

LONGEST_NAME = 100
# Words of a name may be joined by these, or not at all.
_JOINS = r"[\s_.\-:/#()*\[\]{}'\"%]"
_JOIN, _SPLIT = rf"{_JOINS}*", rf"{_JOINS}+"
# What says that nothing was perturbed; "~" is what may join its words.
_CORE = r"""non~targ(?:et(?:ing|ed|s)?)? not?~target(?:ing|ed|s)? no~site non~(?:gene|genes|genic|genomic|cutting|cutter)
    (?:cutting|non~coding|no~guide)~controls? un~target(?:ed|ing) inter~genic
    safe~(?:targeting|targeted|targets|target|harbou?rs?|sites?|loc(?:us|i)|cutting|cutters?|guides?) safe
    nt[cg]s? nt negative neg controls? ctrls? cntrls? ctl (?:con|contr|ctr)(?!\d) random(?:i[sz]ed)? olfactory(?:~receptors?)?
    scrambled? scrmbl? scr aavs1 rosa26
    un~perturbed no(?:ne?|t)?~perturb(?:ed|ation) un~(?:treated|transduced|transfected|infected|edited|modified|stimulated)
    no~(?:treatment|drug|edit|ko|plasmid|vector|virus|cas9|crispr|transduction|knock~(?:out|down))
    non~(?:treated|transduced|transfected|infected) mock(?:~(?:infected|transduced|transfected|treated))?
    veh(?:icle)?(?!\d) dmso pbs(?!\d) saline water h2o baseline basal parental
    (?:[dk]?d?cas9~)?(?:cas9|dcas9|krab|vpr|vp64)~(?:only|alone) d?cas9(?:~krab)? wild~type wt(?!\d)
    (?:empty~)?vector vec(?!\d) ev(?!\d) nc(?!\d|_?rna) dummy~(?:guides?)? (?:sh|si|sg)?lacz
    (?:firefly|renilla)~(?:luciferase|luc)? luciferase [frhn]?luc2?(?!\d)
    (?:e?[gbyr]|ec)fp2? mcherry tdtomato dsred2? mneon(?:green)? venus""".replace("~", _JOIN).split()
# What stands before and after it. Short prefixes need something between, lest a symbol be read as one.
_BEFORE = [
    f"{word}{_JOIN}"
    for word in r"""sgrna grna crrna sirna shrna guides? sg \d++x human mouse one two three lib library cas9 crispr[ia]? the""".split()
]
_BEFORE_SHORT = [f"{word}{_SPLIT}" for word in r"g si sh sc p hs mm h m or \d++ chr(?:\d++|[xym])".split()]
_AFTER = [
    *r"\d++x? sgrnas? grnas? crrnas? sirnas? shrnas? guides? sg rnas? sequences? seq oligos? human mouse for sites?".split(),
    *r"loc(?:us|i) regions? pool lib(?:rary)? group cells? vector plasmid samples?".split(),
    *(rf"(?<={_JOINS}){word}" for word in (r"p1(?:p2)?", "p2", r"d\d++")),
    *r"hs mm v\d++ chr(?:\d++|[xym])(?![a-z0-9]) crispr[ia]? \d++(?:h|hrs?|hours?|d|days?)".split(),  # and not CHRM1
    r"(?!(?-i:REP15|REPS[12]|Reps[12])(?!\d))rep(?:licate)?s?",  # which are genes
    *r"batch(?:es)? days? plates? lanes? wells? runs? donors?".split(),
]
_LETTER = rf"(?<={_JOINS})(?:[a-h]|[gi]\d+)(?![a-z0-9])"  # NTC_A, control-g2
_CORES = "|".join(_CORE)
_BEFORE_PARTS, _AFTER_PARTS = "|".join(_BEFORE), "|".join(_AFTER)
_BEFORE_ANY, _AFTER_ANY = "|".join([*_BEFORE, *_BEFORE_SHORT]), f"{_AFTER_PARTS}|{_LETTER}"


def _pattern(before: str, core: str, after: str) -> re.Pattern[str]:
    return re.compile(rf"{_JOIN}(?:{before})*(?:{core})(?:{_JOIN}(?:{after}))*{_JOIN}", re.IGNORECASE)


_CONTROL = _pattern(_BEFORE_ANY, _CORES, f"{_CORES}|{_AFTER_ANY}")
# Without single letters, which may be genes where they are joined by "_".
_CONTROL_OF_PARTS = _pattern(_BEFORE_PARTS, _CORES, f"{_CORES}|{_AFTER_PARTS}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PREFIX = re.compile(r"^(?:sg|sh|si|g)(?=[A-Z])")  # of shLacZ
# Symbols, letter by letter, that are read as genes unless they are named as controls: centriolin.
_GENES = frozenset({"CNTRL", "Cntrl"})
# Controls by what they are called, and genes or transgenes as well: chymotrypsin-like, a virus integration site, reporters.
_DOUBTFUL = re.compile(
    r"(?:CTRL|Ctrl|AAVS1|Aavs1|(?i:rosa26|lacz|luc(?:iferase)?|e?[gbyr]fp|venus|random|mcherry|tdtomato)|SCRAMBLED?|NT[345]|CTL[1-5])"
)
# Parts of names that controls have more often than genes; only for a warning.
_LIKE_CONTROL = re.compile(
    r"(?i:non.?target|scrambl|safe.?(?:harb|targ)|intergenic|untreat|unperturb|untransd|luciferase|ctrl|(?<!st3)gal4)"
    r"|(?:^|[\s_.\-:/#()])(?i:neg|negative|ctrls?|controls?|ntc|dummy|blank|random)(?![A-Za-z])"
    r"|(?:Ctrl|Control|NegC)|^(?i:control|no.?guide|cas9.?only)"
)

# What stands in place of a label where no perturbation is known: missing values written as text, and what programs that
# call guides write. Compared in lower case, with blanks for underscores and dashes.
MISSING = frozenset(
    """|nan|none|<na>|na|n/a|n.a.|#n/a|#na|null|nil|<nan>|<none>|n/d|n.d.|pd.na|np.nan|unset|<unset>|tbd|to be determined|
    #value!|#ref!|#name?|#div/0!|#null!|#num!|error|invalid|failed|
    unassigned|not assigned|unknown|undetermined|undefined|missing|unspecified|unclassified|unresolved|unclear|not applicable|
    unmapped|unlabeled|unlabelled|not available|not determined|not called|uncalled|no call|nocall|no confident call|low confidence|
    empty|empty droplet|blank|background|noise|no guide|noguide|no guides|no grna|no sgrna|no barcode|no protospacer|zero guides|
    no guide detected|no grna detected|no sgrna detected|none detected|nothing|no perturbation called|no feature|no feature call|
    0|0 guides|unassignable|not detected|undetected|unidentified|other|others|debris|dead|low quality|filtered|excluded|discarded|
    dropped|non cell|noncell|not a cell""".replace("\n    ", "").split("|")
)
SEVERAL = frozenset(
    """multiple|multiplet|multiplets|doublet|doublets|multi|multiple guides|multiple grnas|multiple sgrnas|multi guide|multiguide|
    ambiguous|ambiguous guide|ambig|ambient|collision|conflict|mixed|mixture|more than one|more than one guide|2 or more|several|
    several guides|too many guides|many|>1|>1 guide|>1 guides|2+|2+ guides""".replace("\n    ", "").split("|")
)
# What a value that is missing becomes when it is written as text.
_WRITTEN_MISSING = frozenset("|nan|<na>|na|n/a|nat|null|#n/a".split("|"))
_OTHER_JOINS = re.compile(r"[|,;&]")
_BLANKS = re.compile(r"[\s_\-]+")
_ALL_JOINS = re.compile(r"[+|,;&/:_\s]+")


@lru_cache(maxsize=2**16)
def recognised(name: str) -> bool:
    """Return whether a name is a common control name, in any numbering, prefix or spelling."""
    if name in _GENES or len(name) > LONGEST_NAME:
        return False
    parts = [part.strip() for part in _OTHER_JOINS.split(name)]  # "non-targeting_1|non-targeting_2"
    if len(parts) > 1:
        return all(map(recognised, parts))
    return any(_CONTROL.fullmatch(text) is not None for text in _spellings(name))


def _spellings(name: str) -> tuple[str, ...]:
    """Return a name unchanged, with its words split (``"NegCtrl"``), and with its prefix split (``"shLacZ"``)."""
    prefix = _PREFIX.match(name)
    apart = () if prefix is None else (f"{prefix[0]}_{name[prefix.end() :]}",)
    return (name, _CAMEL.sub("_", name), *apart)


def is_control_of_parts(name: str) -> bool:
    """Return whether several tokens in a row are one control: ``"non_targeting_1"``, but not ``"ctrl_C"`` with the gene C."""
    return len(name) <= LONGEST_NAME and _CONTROL_OF_PARTS.fullmatch(name) is not None


def doubtful(name: str) -> bool:
    """Return whether a recognised name is that of a gene or a transgene as well."""
    return _DOUBTFUL.fullmatch(name) is not None


def looks_like_control(name: str) -> bool:
    """Return whether a name resembles those of controls enough for a warning."""
    return recognised(name) or (name not in _GENES and _LIKE_CONTROL.search(name) is not None)


def named_controls(control: Control) -> tuple[str, ...]:
    """Return the names in ``control=…`` as a tuple, empty for None; TypeError if it is neither text, nor a list of text, nor None."""
    if control is None:
        return ()
    if isinstance(control, str):
        return (control,)
    names = tuple(control) if isinstance(control, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"control names the label of the control cells, or a list of several, found {control!r}. Pass for example "
            "control='NT' or control=['NT', 'safe-targeting']."
        )
    return names


def is_named(name: str, control: Control) -> bool:
    """Return whether a name is a named control, or that one numbered or prefixed (``NTC_1`` where ``NTC`` is named)."""
    names = named_controls(control)
    if name in names:
        return True
    if not names or not recognised(name) or doubtful(name):
        return False
    return any(_numbered(named).fullmatch(text) for named in names for text in _spellings(name))


def is_control(name: str, control: Control = None) -> bool:
    """Return whether one token of a label means "no perturbation".

    Where `control` is one name, it and all usual names of controls do. A list of names: these, numbered or not, and no others. None:
    all usual names that are not those of genes as well.
    """
    if isinstance(control, str):
        return name == control or recognised(name)
    if control is not None:
        return is_named(name, control)
    return recognised(name) and not doubtful(name)


def is_missing_value(text: str) -> bool:
    """Return whether text is a missing value of another column than that of labels, where "0" and "none" may be values."""
    return text.strip().lower() in _WRITTEN_MISSING or text == "None"


def missing_kind(label: str) -> str:
    """Return ``"missing"`` or ``"several"`` for text that stands in place of a label, and ``""`` for a label."""
    written = label.strip().strip("'\"")
    text = _BLANKS.sub(" ", written.lower()).strip()
    apart = _CAMEL.sub(" ", written).lower()  # "NotAssigned"
    if not any(map(str.isalnum, text)):
        return "missing"  # "*", "?", "--"
    numbered = re.sub(r"(?<=[a-z])[ .]\d+$", "", text)  # "unassigned 2", but not the dose "0.5"
    for name in (text, apart, numbered):
        if name in SEVERAL:
            return "several"
        if name in MISSING and name:
            return "missing"
    parts = [part.strip() for part in _ALL_JOINS.split(text) if part.strip()]
    for kind, names in (("missing", MISSING), ("several", SEVERAL)):
        if all(part in names for part in parts):
            return kind
    return ""


@lru_cache(maxsize=2**10)
def _numbered(name: str) -> re.Pattern[str]:
    """Return a pattern for a name in any case, with the usual prefixes and suffixes of controls."""
    return _pattern(_BEFORE_ANY, re.escape(name), _AFTER_ANY)
