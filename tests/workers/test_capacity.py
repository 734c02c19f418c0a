"""How many trials machines hold: none is spread over two, no GPU is idle for want of CPUs, nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raysearch.workers.capacity import Cluster, most_cpus, needs, room

machines = st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 16), "GPU": st.integers(0, 4)}), max_size=6)


def test_a_trial_is_not_spread_over_two_machines():
    assert room([{"CPU": 3.0}, {"CPU": 3.0}], {"CPU": 2.0}) == 2
    assert room([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}], {"CPU": 1.0, "GPU": 1.0}) == 1
    assert room([{"CPU": 4.0}], {"CPU": 1.0, "GPU": 0.0}) == 4, "what is not needed is not asked for"
    assert room([], {"CPU": 1.0}) == 0


def test_fractions_of_a_gpu_pack():
    assert room([{"CPU": 16.0, "GPU": 1.0}], {"CPU": 1.0, "GPU": 0.1}) == 10
    assert room([{"CPU": 16.0, "GPU": 2.0}], {"CPU": 1.0, "GPU": 0.3}) == 6


def test_a_part_of_a_gpu_lies_on_a_single_one():
    """Ray gives 0.6 of a GPU from one GPU alone: a third trial would wait for ever."""
    assert room([{"CPU": 16.0, "GPU": 2.0}], {"CPU": 1.0, "GPU": 0.6}) == 2
    assert Cluster(({"CPU": 16.0, "GPU": 2.0},)).share(3, 0.6)[0] == 2
    assert room([{"CPU": 16.0, "GPU": 3.0}], {"CPU": 1.0, "GPU": 0.4}) == 6


@given(machines, st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_as_many_cpus_as_all_workers_can_have_at_once(found, workers, gpus):
    cpus = most_cpus(found, workers, gpus)
    if cpus > 1:
        assert room(found, {"CPU": cpus, "GPU": gpus}) >= workers
    assert room(found, {"CPU": cpus + 1, "GPU": gpus}) < workers


@given(machines, st.sampled_from([0.25, 0.5, 1.0]))
def test_no_gpu_is_left_idle_by_the_cpus_of_a_trial(found, gpus):
    cluster = Cluster(tuple(found))
    cpus = cluster.cpus(gpus, None)
    assert cluster.now({"CPU": cpus, "GPU": gpus}) == cluster.now({"CPU": 1, "GPU": gpus})


@given(machines, st.integers(1, 12), st.sampled_from([0.0, 1.0]))
def test_a_job_asks_for_no_more_than_there_is(found, workers, gpus):
    cluster = Cluster(tuple(found), types=({"CPU": 4.0, "GPU": 1.0},), more=8)
    some, cpus = cluster.share(workers, gpus)
    there = cluster.nodes if cluster.now({"CPU": 1, "GPU": gpus}) else cluster.types * cluster.more
    assert 1 <= some <= workers
    assert room(there, {"CPU": cpus, "GPU": gpus}) >= some


def test_a_cluster_is_counted_as_it_is_and_as_it_may_become():
    gpu = {"CPU": 4.0, "GPU": 1.0}
    cluster = Cluster(({}, gpu), types=({"CPU": 8.0}, gpu, {"CPU": 8.0, "GPU": 2.0}), more=3)
    assert cluster.now({"CPU": 1, "GPU": 1}) == 1
    assert cluster.most({"CPU": 1, "GPU": 1}) == 1 + 3 * 2
    assert cluster.most_gpus == 2


def test_needs_are_told_as_people_say_them():
    assert needs({"CPU": 4.0, "GPU": 1.0}) == "1 GPU and 4 CPUs"
    assert needs({"CPU": 1.0, "GPU": 0.5}) == "0.5 GPU and 1 CPU"
    assert needs({"CPU": 2.0, "GPU": 0.0}) == "2 CPUs"
