"""What people read here is plain English: no word of `WORDS`, and functions are described in the imperative.

`python tests/test_wording.py [FILE or FOLDER ...]` lists what it finds, each with a proposal.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "configs", "scripts", "mvit_video")

# a pattern, in which a space is any break between words, and what to write instead
WORDS = {
    r"(?:tell|tells|told|telling)(?! (?:[\w`]+ ){0,4}(?:apart|from)\b)": "report, list, log, say",
    r"(?:goes|go|going|gone|went) on": "resume, continue",
    r"(?:hang|hangs|hanging|hung) on": "depend on",
    r"lack|lacks|lacked|lacking": "missing; have no",
    r"(?:left|leave|leaves|leaving) aside": "ignore",
    r"without a word": "silently",
    r"anew": "again",
    r"for the while": "meanwhile, while ... runs",
    r"in vain": "leave it out, or say what fails",
    r"likewise": "also, or say it",
    r"troubles?": "failure, error",
    r"(?:goes|go|going|gone|went) wrong": "fail; failure, error",
    r"foremost": "top",
    r"manners": "conventions",
    r"agreements?": "compatibility; match",
    r"(?:is|are|was|were|be) not finite": "non-finite (NaN or inf) loss",
    r"(?:that|which) (?:is|are) none": "non-finite (NaN or inf); invalid; say what it is",
    r"(?:written|appears?|stands?|kept) whole|wholly": "complete, atomic",
    r"(?:a|the|no) whole file|files? as a whole": "complete file",
    r"of which|of whom": "two sentences; whose",
    r"those (?:that|which|who)": "name them: the videos that ...",
    r"(?:the|than|to|with|as) one of (?:the|a|an|this|that)": "name it again",
    r"in turn": "in a row; leave it out",
    r"thus": "so; leave it out",
    r"(?:by|of) (?:itself|themselves)": "alone, separately; leave it out",
    r"silence|stays? silent": "heartbeat timeout; misses its heartbeat",
    r"pictures?": "image or frame of a video; plot, figure, diagram",
    r"what shows": "say the thing",
    r"the \w+ of before|none of before": "the previous ...",
    r"inference of": "infer the ...",
    r"uneven": "not divisible",
}
# where a word of the table is the right one, and why
ALLOWED = {
    r"`[^`\n]*`": "a name in code",
    r"uneven[:=]|\.uneven": "the argument of the builders",
    r"groups? of (?:\d+ )?pictures": "the codec's term",
    r"</?picture>": "an HTML element",
}

# what a function does, as the first word of its docstring
VERBS = """
Accept Add Adjust Advance Allow Append Apply Ask Assemble Assert Assign Attach Average Await Begin Blend Blur Bound
Build Call Cast Catch Change Check Choose Claim Classify Clear Clip Close Collect Combine Compare Compress Compute
Configure Convert Convolve Copy Correct Count Cover Create Crop Cut Decide Decode Define Delete Describe Detach Detect
Disable Discard Divide Do Download Draw Drop Duplicate Embed Enable Encode End Enlarge Ensure Erase Estimate Evaluate
Exit Expand Explain Export Extract Fail Fetch Fill Filter Find Finish Fit Flatten Flip Flush Fold Follow Forget Format
Forward Free Freeze Gather Generate Get Give Group Guess Handle Have Hide Hold Ignore Import Infer Initialise Insert
Inspect Interpolate Iterate Join Keep Kill Label Lay Let Limit Link List Load Lock Log Look Lower Make Map Mark Mask
Match Measure Merge Mirror Mix Move Multiply Name Normalise Note Notice Number Offer Open Order Overlay Overwrite Pack
Pad Parse Pass Pick Place Play Plot Pool Predict Prefer Prepare Print Process Project Prune Put Quote Raise Rank
Re-encode Reach Read Rebuild Receive Recognise Record Recover Reduce Refer Refuse Register Reject Relabel Release
Remember Remove Rename Render Renumber Reopen Reorder Repair Repeat Replace Report Request Require Rescale Reset
Reshape Resize Resolve Restore Resume Retry Return Reuse Reverse Rewrite Rotate Round Run Sample Save Say Scale Scan
Score Search Seed Select Send Serve Set Shade Share Shift Show Shuffle Shut Sign Skip Sort Split Stack Standardise Start
State Step Stop Store Study Stream Strip Submit Subtract Suggest Sum Summarise Swap Switch Take Test Tie Time Train
Transform Translate Treat Trim Try Turn Undo Update Use Validate Verify Wait Warn Watch Weight Window Wrap Write Yield
Zero Zip
""".split()  # noqa: SIM905
# functions that are described as a thing: by their decorator, or public ones of these files
NOUNS = {"property", "cached_property", "setter"}
FILES_OF_MODELS = "variants*.py"


def test_words() -> None:
    found = [line for place in PLACES for line in words_of(ROOT / place)]
    assert not found, "\n".join(["Words of the table in tests/test_wording.py:", *found])


def test_functions_are_described_in_the_imperative() -> None:
    found = list(moods_of(ROOT / "mvit_video"))
    assert not found, "\n".join(["Not a verb of VERBS in tests/test_wording.py:", *found])


def test_what_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""A file that tells\n    of clips."""\n'
        'def anew(x):\n    """Tell videos apart, and `anew`."""  # it hangs on x\n'
        '    raise ValueError(f"{x} is lacking", "thus")\n'
        'class A:\n    def f(self):\n        """The clips."""\n'
    )
    page = tmp_path / "page.md"
    page.write_text("The videos\nof which few are `lacking`\n")
    assert [line.split(": ")[0].rsplit("/", 1)[-1] for line in words_of(tmp_path)] == [
        "module.py:1",
        "module.py:4",
        "module.py:5",
        "page.md:2",
    ]
    assert [line.rsplit("/", 1)[-1] for line in moods_of(tmp_path)] == [
        "module.py:4: 'Tell' of anew",
        "module.py:8: 'The' of f",
    ]


def words_of(place: Path) -> Iterator[str]:
    """The words that stand in prose, as `file:line: 'word' -> proposal`."""
    patterns = [(re.compile(_spaced(rf"\b(?:{word})\b"), re.IGNORECASE), advice) for word, advice in WORDS.items()]
    allowed = re.compile("|".join(ALLOWED))
    for path in _files(place, {".py", ".md", ".yaml", ".sh", ".html", ".jinja", ".css", ".js"}):
        text = allowed.sub(lambda found: "`" * len(found[0]), path.read_text(encoding="utf-8"))
        hits = sorted(
            (found.start(), found[0], advice) for pattern, advice in patterns for found in pattern.finditer(text)
        )
        prose = list(_prose(text, path.suffix)) if hits else []
        for start, word, advice in hits:
            if any(first <= start < end for first, end in prose):
                line = text.count("\n", 0, start) + 1
                yield f"{_name(path)}:{line}: {' '.join(re.split(_BREAK, word))!r} -> {advice}"


def moods_of(place: Path) -> Iterator[str]:
    """The functions with another first word than a verb of `VERBS`, as `file:line: 'word' of function`."""
    for path in _files(place, {".py"}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
                decorators = {name.id if isinstance(name, ast.Name) else name.attr for name in _names(node)}
                is_thing = decorators & NOUNS or (path.match(FILES_OF_MODELS) and not node.name.startswith("_"))
                if not is_thing and (first := text.split()[0].rstrip(".,;:")) not in VERBS:
                    yield f"{_name(path)}:{node.body[0].lineno}: {first!r} of {node.name}"


_BREAK = r"""[\s#"']+"""


def _spaced(pattern: str) -> str:
    return pattern.replace(" ", _BREAK)


def _files(place: Path, suffixes: set[str]) -> Iterable[Path]:
    paths = [place] if place.is_file() else place.rglob("*.*")
    return sorted(path for path in paths if path.suffix in suffixes)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.Name | ast.Attribute]:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Name | ast.Attribute):
            yield called


def _prose(text: str, suffix: str) -> Iterator[tuple[int, int]]:
    """The parts of a file that people read: comments, and strings that are more than a name."""
    if suffix in {".md", ".html", ".jinja"}:
        yield 0, len(text)
    elif suffix != ".py":
        yield from (found.span() for found in re.finditer(r"#.*|^\s*echo .*", text, re.MULTILINE))
    else:
        starts = [0, *(found.end() for found in re.finditer("\n", text))]
        strings = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT)}
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in strings and not re.fullmatch(r"""[rbf]*["']\w*["']""", token.string):
                yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]


if __name__ == "__main__":
    places = [Path(place).resolve() for place in sys.argv[1:]] or [ROOT / place for place in PLACES]
    for lines in (words_of, moods_of):
        print(*(line for place in places for line in lines(place)), sep="\n")
