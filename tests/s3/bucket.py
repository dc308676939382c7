"""Waits for the server that the environment names, makes its bucket, and checks what the lake needs of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import botocore.exceptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from harness import Bucket  # noqa: E402

bucket = Bucket.from_environment()
until = time.monotonic() + 60
while True:
    try:
        bucket.client.create_bucket(Bucket=bucket.name)
        break
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError, botocore.exceptions.ClientError) as error:
        if time.monotonic() > until:
            sys.exit(f"no bucket after 60 s: {error}")
        time.sleep(0.2)

# Publications and leases rest on "create, or fail if it is there" in one step.
put = {"Bucket": bucket.name, "Key": "probe", "Body": b"1", "IfNoneMatch": "*"}
bucket.client.put_object(**put)
try:
    bucket.client.put_object(**put)
except botocore.exceptions.ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
        raise
else:
    sys.exit("the server overwrites what If-None-Match: * protects; plantlake cannot use it")
bucket.client.delete_object(Bucket=bucket.name, Key="probe")
