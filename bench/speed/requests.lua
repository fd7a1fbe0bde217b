-- Sends the requests of the file REQUESTS in turn (one per line: path, tab, body), and prints the results as JSON.
local prepared = {}
local at = 0
local threads = 0

function setup(thread)
  thread:set("first", threads * 1009)
  threads = threads + 1
end

function init()
  local headers = { ["Content-Type"] = "application/json" }
  for line in io.lines(os.getenv("REQUESTS")) do
    local path, body = line:match("^([^\t]*)\t(.*)$")
    local method = body == "" and "GET" or "POST"
    prepared[#prepared + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
  end
  at = first
end

function request()
  at = at + 1
  return prepared[at % #prepared + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "p50": %.3f, "p95": %.3f, "p99": %.3f, "p999": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
