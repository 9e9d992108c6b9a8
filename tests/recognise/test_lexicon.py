"""Words as symbols, and the network that shares their beginnings."""

import sys
from pathlib import Path

import pytest

from overture.errors import MissingExtra, OvertureError
from overture.recognise.lexicon import Lexicon, Network, Topology, build_network, english, read, spelt


def paths(network: Network) -> dict[str, set[tuple[int, ...]]]:
    """Every word and the classes of the states on its ways through the network, loops apart."""
    found: dict[str, set[tuple[int, ...]]] = {}

    def walk(state: int, classes: tuple[int, ...]) -> None:
        classes = (*classes, int(network.emit[state]))
        for word in network.spoken[network.ends[state] : network.ends[state + 1]]:
            found.setdefault(network.words[word], set()).add(classes)
        for successor in network.targets[network.arcs[state] : network.arcs[state + 1]]:
            walk(int(successor), classes)

    for root in network.roots:
        walk(int(root), ())
    return found


def test_a_dictionary_has_several_pronunciations(tmp_path: Path) -> None:
    path = tmp_path / "d.dict"
    path.write_text(
        ";;; of CMU\ntomato T AH M EY T OW\ntomato(2) T AH M AA T OW # British\ntomato(3) T AH M AA T OW\n\n(a) A\n"
    )
    found = read(path)
    assert found == {"tomato": (("T", "AH", "M", "EY", "T", "OW"), ("T", "AH", "M", "AA", "T", "OW")), "(a)": (("A",),)}
    path.write_text("tomato T\nsoup\n")
    with pytest.raises(OvertureError, match=r"d\.dict, line 2: 'soup' has no pronunciation"):
        read(path)
    with pytest.raises(OvertureError, match="no dictionary"):
        read(tmp_path / "none")


def test_english_comes_with_the_aligner(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    found = english()
    assert found["read"] == (("R", "EH", "D"), ("R", "IY", "D")) and len(found) > 100_000
    english.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtra, match=r"overture\[align\]"):
        english()


def test_words_without_a_pronunciation_are_left_out_and_counted() -> None:
    lexicon = Lexicon.of(["b", "a", "zxq", "a"], {"a": (("A",),), "b": (("B",),), "c": (("C",),)})
    assert lexicon.words == ("a", "b") and lexicon.missing == ("zxq",)
    assert lexicon.unknown(["a zxq", "c a", ""]) == (2, 4)
    with pytest.raises(OvertureError, match=r"no word has a pronunciation \(1 asked for"):
        Lexicon.of(["zxq"], {})


def test_classes_are_states_and_there_is_no_blank() -> None:
    topology = Topology(symbols=("A", "B"), states=3)
    assert len(topology) == 7  # silence and six states, nothing else
    assert [topology.first(s) for s in ("SIL", "A", "B")] == [0, 1, 4]
    with pytest.raises(OvertureError, match="no states for the symbol 'C'"):
        topology.first("C")


@pytest.mark.parametrize("states", [1, 3])
def test_the_network_says_the_words_and_nothing_else(states: int) -> None:
    dictionary = {
        "can": (("K", "AE", "N"),),
        "cat": (("K", "AE", "T"),),
        "cattle": (("K", "AE", "T", "L"),),
        "kat": (("K", "AE", "T"),),  # sounds like another
        "the": (("DH", "AH"), ("DH", "IY")),
    }
    topology = Topology(symbols=("AE", "AH", "DH", "IY", "K", "L", "N", "T"), states=states)
    network = build_network(Lexicon.of(dictionary, dictionary), topology)

    def classes(symbols: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(topology.first(s) + k for s in symbols for k in range(states))

    assert paths(network) == {word: {classes(p) for p in said} for word, said in dictionary.items()}
    assert len(network.roots) == 2  # K and DH
    assert len(network.emit) == 1 + states * 8  # silence, K AE (N | T L), DH (AH | IY)
    assert network.emit[0] == 0 and 0 not in network.emit[1:]


def test_letters_stand_for_sounds_where_there_is_no_dictionary() -> None:
    words = ["noć", "nos"]
    topology = Topology(symbols=("c", "n", "o", "s", "ć"), states=1)
    network = build_network(Lexicon.of(words, spelt(words)), topology)
    assert paths(network) == {"noć": {(2, 3, 5)}, "nos": {(2, 3, 4)}}


def test_silence_is_no_part_of_a_word() -> None:
    dictionary = {"a": (("A", "SIL"),)}
    with pytest.raises(OvertureError, match="SIL stands between words"):
        build_network(Lexicon.of(dictionary, dictionary), Topology(symbols=("A",), states=1))
