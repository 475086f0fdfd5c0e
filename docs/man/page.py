#!/usr/bin/python3
"""A page of the manual whose lists come from a program's own help: page.py PROGRAM TEMPLATE LIBDIR, to standard output.

@COMMANDS@ becomes the commands with their arguments, @OPTIONS@ each option with the commands that take it, as
`PROGRAM --help` and `PROGRAM COMMAND --help` say; @LIBDIR@ the folder of libraries.
"""
import re
import subprocess
import sys


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def help_of(program, *command):
    return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True, timeout=20).stdout


def read_commands(program):
    """name -> (arguments, text, options it takes)."""
    listed = help_of(program).split("\nCommands:\n", 1)[1].split("\n\n", 1)[0]
    commands = {}
    for line in listed.splitlines():
        name = line.split()[0]
        text = help_of(program, name)
        usage, meaning = text.split("\n\n", 2)[:2]
        arguments = re.fullmatch(rf"usage: \S+ {re.escape(name)} (.*)\[options\]", usage).group(1).strip()
        commands[name] = (arguments, meaning, text.split("\nOptions:\n", 1)[1])
    return commands


def read_options(commands):
    """(letter, name, argument, text) -> the commands that take it, in the order of the help."""
    options = {}
    for name, (_, _, text) in commands.items():
        for m in re.finditer(r"^  (?:-(\w), |    )--([\w-]+)(?: (\S+))? +(.+)$", text, re.M):
            options.setdefault(m.groups(), []).append(name)
    return options


def item(name, argument, text):
    head = f'.BI "{name} " "{roff(argument)}"' if argument else f'.B "{name}"'
    return f".TP\n{head}\n{roff(text[0].upper() + text[1:])}" + ("" if text.endswith(".") else ".")


def write_commands(commands):
    return "\n".join(item(roff(name), arguments, meaning) for name, (arguments, meaning, _) in commands.items())


def write_options(commands):
    out = []
    for (letter, name, argument, text), takers in read_options(commands).items():
        out.append(item((f"\\-{letter}, " if letter else "") + f"\\-\\-{roff(name)}", argument, text))
        if len(takers) < len(commands):
            out.append("Of: " + ", ".join(roff(t) for t in takers) + ".")
    return "\n".join(out)


def main():
    program, template, libdir = sys.argv[1:]
    with open(template, encoding="utf-8") as f:
        page = f.read()
    if "@COMMANDS@" in page:
        commands = read_commands(program)
        page = page.replace("@COMMANDS@", write_commands(commands)).replace("@OPTIONS@", write_options(commands))
    sys.stdout.write(page.replace("@LIBDIR@", libdir))


main()
