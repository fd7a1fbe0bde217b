#!/bin/sh
# Creates the artifact bucket if it does not exist, then starts the server. Settings come from the environment:
# MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION, MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...
set -eu
python -c '
import os
from urllib.parse import urlsplit
import boto3
from botocore.exceptions import ClientError

bucket = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
try:
    s3.head_bucket(Bucket=bucket)
except ClientError:
    s3.create_bucket(Bucket=bucket)
    print("created the bucket", bucket)
'
exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --uvicorn-opts "--log-level warning"
