"""overture.report.tables: a gap between groups never stands without the scores themselves."""

from overture.report import results_markdown

from .test_report import a_result


def test_a_gap_stands_beside_what_both_groups_come_to() -> None:
    fair = {
        "column": "gender",
        "between": ["f", "m"],
        "mean": 1.7,
        "ci95": [-3.0, 6.4],
        "groups": {"f": 0.91, "m": 0.89},
    }
    plain = a_result(gaps={"tera": fair | {"groups": {"f": 0.12, "m": 0.118}}, "untrained": fair})
    text = results_markdown([plain]).replace("\N{NO-BREAK SPACE}", " ")
    assert "200 (f - m) / (f + m) in per cent; above 0 is worse for f" in text
    assert "| tera | 0.120 | 0.118 | +1.7 % | −3.0 to +6.4 |" in text
    assert "| untrained | 0.910 | 0.890 | +1.7 % | −3.0 to +6.4 |" in text  # equal, and bad
    assert "above 0 is better for f" in results_markdown([plain | {"higher_is_better": True}])
    assert "Gap between" not in results_markdown([a_result()])


def test_claims_without_a_result_are_named() -> None:
    results = [a_result(verdict="holds"), a_result(recipe="other", verdict="holds")]
    text = results_markdown(results, known=("tera", "other", "waves:speech", "bert"))
    assert "2 claims checked: 2 hold." in text and "Not run yet: bert, waves:speech." in text
    assert "Not run yet" not in results_markdown(results, known=("tera", "other"))
