"""What the library says of its arguments, the command line says of its flags."""

import sys

import pytest

from leftout.cli.flag_names import OBJECTS, flags_by_name, in_flags
from leftout.cli.main import Commands, main

COMMANDS = Commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_named_by_its_flag_and_nothing_else_is(name) -> None:
    command = COMMANDS[name]
    flags = flags_by_name(command)
    options = {option.name: option for option in command.params}
    for option in options.values():
        of_option = [word for word in option.opts if word.startswith("--")]
        said = in_flags(f"`{option.name}` must be 1. Give a larger `{option.name}`.", flags)
        if not of_option or option.name in OBJECTS:  # as `data`, which stands without a flag
            assert f"`{option.name}`" in said
            continue
        (flag,) = of_option
        assert said == f"{flag} must be 1. Give a larger {flag}."
        assert (
            in_flags(f"say so with `{option.name}` ({flag} 3, or 4).", flags)
            == f"say so with {flag} 3, or 4."
        )
        if option.multiple:
            assert in_flags(f"`{option.name}s` must", flags) == f"{flag} must"
    other = "`inputs`, `fitted` and `nothing` of `t.csv`, `lo.load(n_train=3)`, `n_train=3`"
    assert in_flags(other, flags) == other


def test_an_answer_that_stands_behind_its_name_is_the_flag_with_it() -> None:
    flags = {"header": "--header", "pictures": "--pictures", "resize": "--resize"}
    text = (
        "Say `header`: True (--header yes), or `pictures`: False (--pictures no), with `resize` (in pixels)."
    )
    assert in_flags(text, flags) == "Say --header yes, or --pictures no, with --resize (in pixels)."


def test_a_name_with_a_remark_about_another_flag_keeps_the_remark() -> None:
    flags = {"memory": "--memory", "n_train": "--n-train"}
    assert in_flags("Raise `memory` (--n-train 3 fits).", flags) == "Raise --memory (--n-train 3 fits)."


@pytest.mark.parametrize("words", [("out",), ("digits", "--labels", "out"), ("digits", "--labels=out")])
def test_a_file_that_is_called_like_an_option_keeps_its_name(words) -> None:
    typed = {part for word in words for part in word.split("=")}
    assert in_flags(
        "`out` must be a folder; raise `memory`.", {"out": "--out", "memory": "--memory"}, typed
    ) == ("`out` must be a folder; raise --memory.")


def test_a_folder_called_out_is_refused_by_its_name(leftout) -> None:
    status, out, err = leftout("plan", "out", "--memory", "1GB")
    assert (status, out) == (2, "")
    assert "--out" not in err
    assert "'out'" in err


def test_a_word_that_is_no_command_changes_no_message(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["leftout", "odit", "digits"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "odit" in capsys.readouterr().err
