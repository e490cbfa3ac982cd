"""Decodes requests of OTLP by OpenTelemetry's own library: a file each, an object of JSON in a line each."""

import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

for name in sys.argv[1:]:
    request = ExportLogsServiceRequest()
    with open(name, "rb") as file:
        request.ParseFromString(file.read())
    # What it doesn't know it would leave out.
    again = ExportLogsServiceRequest()
    again.ParseFromString(request.SerializeToString())
    assert again == request
    print(json.dumps(MessageToDict(request)))
