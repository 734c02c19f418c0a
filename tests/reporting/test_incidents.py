"""What the summary says went wrong around a search."""

from __future__ import annotations

from raysearch.reporting.sentences import incidents


def lost(worker: str, cause: str, trial: str = "t0000") -> dict[str, str]:
    return {"event": "segment_lost", "trial": trial, "worker": worker, "cause": cause}


def test_where_nothing_went_wrong_nothing_is_said():
    assert incidents([{"event": "epoch"}, {"event": "failed", "trial": "t0001"}]) == []


def test_a_worker_counts_once_however_many_heads_it_had():
    log = [lost("a", "process", "h0000"), lost("a", "process", "h0001"), lost("b", "machine")]
    assert incidents(log) == [
        "2 workers were lost (1 with the machine); what ran there went on from their last checkpoints"
    ]
    assert incidents(log[:1]) == ["1 worker was lost; what ran there went on from its last checkpoint"]


def test_storage_and_refits_have_a_sentence_each():
    log = [{"event": "storage_refused", "error": "No space left on device"}] * 2 + [{"event": "refit_lost"}]
    assert incidents(log) == [
        "The storage refused to be written to 2 times, e.g. No space left on device",
        "The refits were lost 1 time; those that had not ended began again",
    ]
