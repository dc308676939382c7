"""Waits for the S3 server that the environment names, creates the bucket, and checks that it supports conditional writes."""

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

# Publications and leases need an atomic operation that creates an object or fails if it exists.
put = {"Bucket": bucket.name, "Key": "probe", "Body": b"1", "IfNoneMatch": "*"}
bucket.client.put_object(**put)
try:
    bucket.client.put_object(**put)
except botocore.exceptions.ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
        raise
else:
    sys.exit("the server ignores If-None-Match: *; plantlake needs conditional writes")
bucket.client.delete_object(Bucket=bucket.name, Key="probe")
