"""What a ledger says in short."""

import pandas as pd

from featurespeed.ledger.engine import CLAIM_COLUMNS
from featurespeed.ledger.headline import HEADLINE_COLUMNS, disagreements, headline, tally


def claims() -> pd.DataFrame:
    rows = [
        ("a", "central", "arXiv:1, Fig. 1", "confirmed"), ("b", "ours", "arXiv:1, ours", "contradicted"),
        ("c", "central", "arXiv:2, Thm 1", "inconclusive"), ("d", "ours", "arXiv:1, ours", "confirmed"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["claim_id", "kind", "paper", "verdict"])
    return frame.reindex(columns=list(CLAIM_COLUMNS), fill_value="")


def test_the_headline_is_the_central_claims_of_each_paper():
    found = headline(claims())
    assert tuple(found.columns) == HEADLINE_COLUMNS
    assert list(found.claim_id) == ["a", "c"] and list(found.paper) == ["arXiv:1", "arXiv:2"]


def test_tallies_are_by_paper_and_kind_and_lose_nothing():
    found = tally(claims())
    assert list(found.index) == [("arXiv:1", "central"), ("arXiv:1", "ours"), ("arXiv:2", "central")]
    assert list(found.columns) == ["confirmed", "contradicted", "inconclusive", "not run"]
    assert found.loc[("arXiv:1", "ours")].tolist() == [1, 1, 0, 0] and found.to_numpy().sum() == 4


def test_scales_disagree_where_one_confirms_and_another_contradicts():
    verdicts = {
        "paper": {"a": "contradicted", "b": "confirmed", "c": "inconclusive"},
        "laptop": {"a": "confirmed", "b": "confirmed", "c": "contradicted", "d": "confirmed"},
        "gpu": {"a": "not run"},
    }
    assert disagreements(verdicts) == ["a"]
