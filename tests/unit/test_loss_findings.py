"""Clusters of validation rows with a high loss: found where they are, not where rows merely scatter."""

import pytest

from tasks.loss_findings import loss_findings
from tasks.records import RowLoss


def rows(
    losses: list[float], *, source: str = "tickets", answer: str | None = None, role: str = "train"
) -> list[RowLoss]:
    return [
        RowLoss.model_validate(
            {
                "example_id": f"{source}-{answer}-{number}", "source": source, "role": role,
                "answer": answer or f"answer {number}", "tokens": 4, "loss": loss,
            }
        )
        for number, loss in enumerate(losses)
    ]  # fmt: skip


LOW = [0.1, 0.2, 0.15, 0.12, 0.3, 0.05, 0.11, 0.22, 0.09, 0.18]
HIGH = [2.0, 1.5, 2.5, 1.8, 2.2]


def test_a_source_whose_rows_are_not_learned_is_named_with_its_worst_rows() -> None:
    (found,) = loss_findings([*rows(LOW), *rows(HIGH, source="vendor")])
    assert found.mode == "noisy_data"
    assert found.evidence == {"clusters": 1, "loss": 2.0, "loss_of_others": 0.152, "rows": 5}
    assert found.text == (
        "the validation loss of the 5 rows of the source 'vendor' is 2.00, of the other 10 rows 0.15: look at those "
        "rows, the worst are vendor-None-2, vendor-None-4, vendor-None-0 (`tunegate data why ID`): their labels may be "
        "wrong, or there are too few rows like them"
    )


def test_the_rows_of_one_answer_are_a_cluster_too_and_a_long_answer_is_cut() -> None:
    (found,) = loss_findings([*rows(LOW), *rows(HIGH, answer="refund\n" + "please " * 20)])
    assert "the 5 rows answered with 'refund please" in found.sentence
    assert "…' is 2.00" in found.sentence


def test_of_several_clusters_the_worst_is_told_and_the_others_are_counted() -> None:
    found = [*rows(LOW), *rows(2 * HIGH, answer="a"), *rows([loss + 0.5 for loss in HIGH], answer="b")]
    (finding,) = loss_findings([*found, *rows(LOW, answer="c"), *rows(LOW, answer="d")])
    assert "answered with 'b'" in finding.sentence
    assert finding.sentence.endswith(", and 1 more such clusters")


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([*rows(LOW), *rows(HIGH[:4], answer="a")], id="too few rows to be a cluster"),
        pytest.param(rows(HIGH, answer="a"), id="nothing to hold it against"),
        pytest.param([*rows(LOW), *rows(HIGH, source="replayed", role="replay")], id="replay"),
        pytest.param([*rows(HIGH), *rows(HIGH, source="vendor")], id="all alike"),
        pytest.param([*rows([0.01] * 10), *rows([0.05] * 5, answer="a")], id="high as a ratio, little in nats"),
        pytest.param([*rows(LOW), *rows([0.1, 0.1, 0.1, 0.1, 9.0], answer="a")], id="one odd row"),
        pytest.param([], id="nothing measured"),
    ],
)
def test_what_is_no_cluster_is_not_told(losses: list[RowLoss]) -> None:
    assert list(loss_findings(losses)) == []
