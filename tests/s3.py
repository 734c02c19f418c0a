"""An S3 of the tests' own: moto's, behind a door that can be shut for writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUCKET, KEY, SECRET = "bucket", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class S3:
    """Where it listens, what is in it, and its door."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self.refuses_writes = threading.Event()
        self.refused = 0
        self.endpoint = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """A request (WSGI)."""
        if self.refuses_writes.is_set() and environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            self.refused += 1
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_SLOW_DOWN]
        return self._app(environ, start_response)

    @property
    def environment(self) -> dict[str, str]:
        """What finds it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """What is in the bucket, by key; without the marks of empty folders."""
        bucket = self.client().Bucket(BUCKET)
        found = bucket.objects.filter(Prefix=prefix)
        return {one.key: one.get()["Body"].read() for one in found if not one.key.endswith("/")}

    def client(self) -> Any:
        """boto3's."""
        import boto3

        return boto3.resource(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )


@contextmanager
def running_s3() -> Iterator[S3]:
    """The server, with an empty bucket, while the block runs."""
    from werkzeug.serving import make_server

    s3 = S3()
    server = make_server("127.0.0.1", 0, s3, threaded=True)
    s3.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        s3.client().create_bucket(Bucket=BUCKET)
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
