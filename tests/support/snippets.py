"""What pages of documentation show: their blocks of code, and what each of them is."""

from __future__ import annotations

import ast
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
#: Says that the block after it is not held to anything but its form, and why: `<!-- not run: needs an account -->`.
NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<why>.+?)\s*-->")
#: The block after it is carried out, in order with the others of its page, against a kit on this machine.
RUN = re.compile(r"<!--\s*run:\s*(?P<where>kit|project)\s*-->")
#: A block whose first line is a comment with a path is that file.
FILE = re.compile(r"(?:#|//)\s+(?P<path>[\w.-]+(?:/[\w.-]+)*\.(?:py|toml|txt|json|js|yaml|yml))\s*")
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    text: str
    #: Has a language of its own, rather than one that was guessed from its text.
    fenced: bool
    not_run: str | None = None
    run: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """Where it belongs in a project, if it says so."""
        match = FILE.fullmatch(self.text.split("\n", 1)[0])
        return match["path"] if match else None


def pages() -> list[Path]:
    """Every page that a user reads: all but the records of decisions and of changes."""
    found = [page for page in (ROOT / "docs").rglob("*.md") if not {"decisions", "node_modules"} & set(page.parts)]
    return sorted([*found, ROOT / "README.md", ROOT / "agents/README.md"])


def blocks(page: Path) -> list[Block]:
    return list(_blocks(page, page.read_text()))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    said = ""
    for token in _MARKDOWN.parse(text):
        if token.type in {"fence", "code_block"} and token.map is not None:
            not_run, run = NOT_RUN.search(said), RUN.search(said)
            language = token.info.split()[0] if token.info.strip() else guess(token.content)
            yield Block(
                page, token.map[0] + 1, language, token.content, bool(token.info.strip()),
                not_run["why"] if not_run else None, run["where"] if run else None,
            )  # fmt: skip
        said = token.content if token.type == "html_block" else ""


def guess(text: str) -> str:
    """The language of an indented block, by its first line or by what reads all of it.

    What is none of them is text: an answer, a diagram, a plan of folders.
    """
    text = textwrap.dedent(text)
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")), "")
    word = first.split()[0] if first.split() else ""
    if word.rsplit("/", 1)[-1] in PROGRAMS or re.match(r"[A-Z_]+=\S*(\s|$)", first) or re.match(r"\w+\(\) \{", first):
        return "shell"
    for language, reads in (("json", _reads_json), ("toml", tomllib.loads), ("python", _reads_python)):
        try:
            reads(text)
        except (ValueError, SyntaxError):
            continue
        return language
    return "text"


def json_values(text: str) -> list[object]:
    """One value, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        decoder, values, rest = json.JSONDecoder(), [], text.strip()
        while rest:
            value, end = decoder.raw_decode(rest)
            values.append(value)
            rest = rest[end:].lstrip(" \n,")
        return values


def _reads_json(text: str) -> None:
    if not text.lstrip().startswith("{"):
        raise ValueError("no object")
    json_values(text)


def _reads_python(text: str) -> None:
    tree = ast.parse(text)
    if not any(
        isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Assign | ast.Call)
        for node in ast.walk(tree)
    ):
        raise SyntaxError("no statement")


# ---- command lines ----

#: What pages may tell a reader to run, besides the kit's own commands.
PROGRAMS = frozenset({
    "turnkeeper", "make", "pytest", "pip", "python", "python3", "uv", "uvx", "node", "npx", "cdk", "aws", "docker",
    "git", "curl", "jq", "openssl", "rm", "cd", "mkdir", "cat", "echo", "printf", "kill", "export", "unset", "source",
    "for", "out", "vercel",
})  # fmt: skip
_BOUNDARIES = frozenset({"|", "||", "&&", ";", "&", ";;"})
_KEYWORDS = frozenset({"while", "until", "if", "then", "else", "do", "!", "("})
_SHELL = frozenset({"[", "break", "done", "fi", "read", "test", "}", ")", "for"})


@dataclass(frozen=True)
class Command:
    """One program of a command line, with its words."""

    block: Block
    program: str
    words: tuple[str, ...]


def command_lines(block: Block) -> list[Command]:
    """The programs that a block of shell calls, also those within `$( )`."""
    found = []
    for line in _logical_lines(block.text):
        for words in _simple_commands(line):
            while words and (words[0] in _KEYWORDS or re.fullmatch(r"[A-Za-z_]\w*=.*", words[0])):
                words = words[1:]
            if words and words[0] not in _SHELL:
                found.append(Command(block, words[0].rsplit("/", 1)[-1], tuple(words[1:])))
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Lines as the shell joins them; the body of a heredoc belongs to its first line and is no command."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if line.strip()[:1] > "~":
            continue  # what the command before prints
        joined = line
        while _is_open(joined):
            more = next(lines, None)
            if more is None:
                break
            joined += "\n" + more
        if heredoc := re.search(r"<<-?\s*['\"]?(\w+)", joined):
            while next(lines, heredoc[1]).strip() != heredoc[1]:
                pass
            joined = joined[: heredoc.start()]
        if re.match(r"\w+\(\) \{", joined.strip()):
            continue
        yield joined


def _is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def _simple_commands(line: str) -> Iterator[list[str]]:
    inner = [match[1] for match in re.finditer(r"\$\(([^()]*(?:\([^()]*\)[^()]*)*)\)", line)]
    for part in inner:
        yield from _simple_commands(part)
    plain = re.sub(r"\$\(([^()]*(?:\([^()]*\)[^()]*)*)\)", "SUBSTITUTED", line)
    plain = re.sub(r"\$\{\w+:\+[^}]*\}", "", plain)  # what is there only sometimes
    plain = re.sub(r"\d?>>?\s*\S+|<\s*[\w./$]+", "", _outside_quotes(plain))
    lexer = shlex.shlex(plain, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in lexer:
        if word in _BOUNDARIES:
            if words:
                yield words
            words = []
        else:
            words.append(word.replace("\0", ">").replace("\1", "<"))
    if words:
        yield words


def _outside_quotes(line: str) -> str:
    """The line with redirections' signs inside quotes hidden, so that only real ones are taken out."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", lambda match: match[0].replace(">", "\0").replace("<", "\1"), line)
