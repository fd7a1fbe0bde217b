#!/bin/sh
# Creates the stack's buckets if they do not exist, then starts the server. Settings come from the environment:
# MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION, MLFLOW_S3_ENDPOINT_URL, S3_BUCKETS, AWS_ACCESS_KEY_ID, ...
set -eu
python -c '
import os
import boto3
from botocore.exceptions import ClientError

s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
for bucket in os.environ["S3_BUCKETS"].split():
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        s3.create_bucket(Bucket=bucket)
        print("created the bucket", bucket)
'
exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --uvicorn-opts "--log-level warning"
