"""What `--weights` names is what is loaded, from a real server where there is one; and it says why."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import socket
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from raysearch.errors import InputError
from raysearch.models import imagenet
from raysearch.models.boundary import build_classifier
from raysearch.models.registry import backbone_spec
from raysearch.models.weights import digest, load_weights
from raysearch.recipe import Recipe, Stage
from tests.networks import SMALL

CLOSED = "http://127.0.0.1:9/densenet121-00000000.pth"  # nothing listens on the discard port


def tensors_of(backbone, seed=0):
    return dict(load_weights(backbone, "random", seed).state)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty torch hub cache, and no memory of what could not be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    imagenet.why_unreachable.cache_clear()
    yield tmp_path / "torch" / "hub" / "checkpoints"
    imagenet.why_unreachable.cache_clear()


@pytest.fixture
def point(monkeypatch):
    """Points a backbone's ImageNet weights at another address."""

    def to(url, backbone="densenet121"):
        monkeypatch.setattr(backbone_spec(backbone).imagenet.value, "url", url)

    return to


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` to every GET, after the headers of its full length, and counts what it is asked."""

    def __init__(self, content, sent=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.sent, self.asked = content, content if sent is None else sent, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.asked.append(self.command)
        self.send_response(200 if "missing" not in self.path else 404)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(content, sent=None):
        server = Server(content, sent)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DenseNet file as torchvision publishes it: legacy format, old names, no counters, with a classifier."""
    tensors = tensors_of("densenet121", seed=11)
    old = {
        re.sub(r"(denselayer\d+\.\w+?)([12])\.", r"\1.\2.", f"features.{name.partition('.')[2]}"): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    path = tmp_path_factory.mktemp("published") / "densenet121.pth"
    torch.save(old | {"classifier.bias": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    return tensors, content, f"densenet121-{hashlib.sha256(content).hexdigest()[:8]}.pth"


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_is_downloaded_once_then_read_from_torchvisions_cache(weights, published, serve, point, hub, capsys):
    tensors, content, name = published
    server = serve(content)
    point(f"{server.url}/{name}")
    first = load_weights("densenet121", weights, 0)
    assert same(first.state, tensors)
    assert first.origin == "ImageNet (DenseNet121_Weights.IMAGENET1K_V1)"
    assert (hub / name).read_bytes() == content
    assert server.asked == ["HEAD", "GET"]
    second = load_weights("densenet121", weights, 0)
    assert server.asked == ["HEAD", "GET"]
    assert (second.digest, second.origin) == (first.digest, first.origin)
    if weights == "auto":
        assert "downloaded" in first.reason
        assert "found in torchvision's cache" in second.reason
    assert capsys.readouterr().out == ""  # stdout is for the commands' results


def test_a_cached_file_needs_no_connection(published, point, hub):
    tensors, content, _ = published
    hub.mkdir(parents=True)
    (hub / "densenet121-00000000.pth").write_bytes(content)
    point(CLOSED)
    assert same(load_weights("densenet121", "imagenet", 0).state, tensors)


def test_a_broken_cached_file_is_named(point, hub):
    hub.mkdir(parents=True)
    (hub / "densenet121-00000000.pth").write_bytes(b"<html>log in to the hotel's network</html>")
    point(CLOSED)
    with pytest.raises(InputError, match=r"densenet121-00000000.pth' is not a weights file"):
        load_weights("densenet121", "auto", 0)


def test_auto_without_a_connection_takes_the_bundled_ones_and_says_why(point):
    point(CLOSED)
    loaded = load_weights("densenet121", "auto", 0)
    assert loaded.origin == "bundled densenet121_cifar100.safetensors"
    assert "not in torchvision's cache" in loaded.reason
    assert f"{CLOSED} cannot be reached" in loaded.reason
    assert loaded.metadata["trained_on"].startswith("CIFAR-100")
    assert {tensor.dtype for tensor in loaded.state.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_out_of_reach_and_nothing_bundled_says_what_to_do(weights, point):
    point(CLOSED, "vgg19")
    with pytest.raises(InputError, match=f"weights {weights}: .*cannot be reached.*--weights PATH .*--weights random"):
        load_weights("vgg19", weights, 0)


def test_imagenet_asked_for_is_never_replaced_by_something_else(point):
    point(CLOSED)
    with pytest.raises(InputError, match=r"weights imagenet: .*cannot be reached.*give --weights auto, --weights PATH"):
        load_weights("densenet121", "imagenet", 0)


def test_a_server_that_has_no_such_file_counts_as_out_of_reach(serve, point):
    point(f"{serve(b'x').url}/missing-00000000.pth")
    assert "answers 404" in load_weights("densenet121", "auto", 0).reason


def test_a_silent_host_is_given_up_after_the_patience_and_asked_once_a_process(point, monkeypatch):
    assert imagenet.PATIENCE_SECONDS == 5
    monkeypatch.setattr(imagenet, "PATIENCE_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        point(f"http://127.0.0.1:{silent.getsockname()[1]}/densenet121-00000000.pth")
        start = time.monotonic()
        reason = load_weights("densenet121", "auto", 0).reason
        assert 0.3 < time.monotonic() - start < 4
        assert "did not answer within 0.4 s" in reason or "timed out" in reason
        monkeypatch.setattr(imagenet, "PATIENCE_SECONDS", 60)
        start = time.monotonic()
        assert load_weights("densenet121", "auto", 0).reason == reason
        assert time.monotonic() - start < 4


def test_a_download_that_breaks_off_or_is_another_file_leaves_nothing_behind(published, serve, point, hub):
    _, content, name = published
    for sent in (content[:1000], b"x" * len(content)):
        point(f"{serve(content, sent).url}/{name}")
        assert "failed" in load_weights("densenet121", "auto", 0).reason
        assert list(hub.glob("*")) == []


def test_a_download_that_stalls_is_given_up(published, serve, point, monkeypatch):
    monkeypatch.setattr(imagenet, "STALL_SECONDS", 0.3)
    _, content, name = published
    release = threading.Event()

    def stall(handler):
        handler.do_HEAD()
        release.wait(20)

    monkeypatch.setattr(Handler, "do_GET", stall)
    point(f"{serve(content).url}/{name}")
    assert "timed out" in load_weights("densenet121", "auto", 0).reason
    release.set()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("weights", ["auto", "random"])
def test_the_network_from_scratch_starts_from_random_weights(weights):
    loaded = load_weights("simple_cnn", weights, 7)
    assert loaded.origin == "random (seed 7)"
    assert loaded.digest != load_weights("simple_cnn", weights, 8).digest


def test_simple_cnn_has_no_imagenet_weights():
    with pytest.raises(InputError, match="weights imagenet: simple_cnn has none"):
        load_weights("simple_cnn", "imagenet", 0)


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_path_gives_the_tensors_of_the_file_to_the_classifier(backbone, kind, tmp_path):
    tensors = tensors_of(backbone, seed=2)
    path = tmp_path / "own.weights"
    save_file(tensors, path) if kind == "safetensors" else torch.save(tensors, path)
    loaded = load_weights(backbone, str(path), 0)
    assert same(loaded.state, tensors)
    assert loaded.origin == str(path)
    assert loaded.digest == digest(tensors)
    classifier = build_classifier(Recipe(backbone=backbone, image_size=32, schedule=(Stage(depth=0, epochs=1),)), 3)
    missing, unexpected = classifier.load_state_dict(loaded.state, strict=False)
    assert unexpected == []
    assert all(name.startswith("head.") for name in missing)
    assert same({name: classifier.state_dict()[name] for name in tensors}, tensors)


def test_weights_of_another_backbone_are_refused(tmp_path):
    save_file(tensors_of("simple_cnn"), tmp_path / "cnn.safetensors")
    with pytest.raises(
        InputError, match=r"cnn.safetensors' does not fit vgg19: block1.0.weight, .* missing; .* unexpected"
    ):
        load_weights("vgg19", str(tmp_path / "cnn.safetensors"), 0)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    save_file(tensors_of("simple_cnn"), tmp_path / "cnn.safetensors")
    assert load_weights("simple_cnn", "~/cnn.safetensors", 0).origin == "~/cnn.safetensors"


def test_random_weights_are_those_the_classifier_starts_with():
    recipe = Recipe(backbone="simple_cnn", image_size=32, seed=5, schedule=(Stage(depth=0, epochs=1),))
    classifier = build_classifier(recipe, 3).state_dict()
    assert all(torch.equal(classifier[name], tensor) for name, tensor in tensors_of("simple_cnn", 5).items())


def test_the_digest_sees_values_names_types_and_shapes_but_not_order_or_layout():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    assert digest(dict(reversed(base.items()))) == digest(base)
    assert digest(base | {"a": base["a"].t().contiguous().t()}) == digest(base)
    for other in (
        base | {"a": base["a"] + 1e-6},
        base | {"a": base["a"].reshape(3, 2)},
        base | {"b": torch.tensor(1, dtype=torch.int32)},
        {"a": base["a"], "c": base["b"]},
    ):
        assert digest(other) != digest(base)


def test_the_digest_is_of_the_weights_not_of_the_file(tmp_path):
    bundled = load_weights("densenet121", "auto", 0)
    save_file(dict(bundled.state), tmp_path / "copy.safetensors")
    assert load_weights("densenet121", str(tmp_path / "copy.safetensors"), 0).digest == bundled.digest
    assert same(load_file(tmp_path / "copy.safetensors"), dict(bundled.state))
