-- A chat completion that is answered whole. KB: kilobytes of prompt, 0 for a short one. Prints one JSON object at the end.
local kilobytes = tonumber(os.getenv("KB") or "0")
local words = { "Which words are short, and which of them are shorter?" }
for i = 1, kilobytes * 32 do
  words[i] = string.format("a line of prompt, number %06d. ", i)
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer sk-bench"
wrk.body = '{"model":"mock","max_tokens":128,"messages":[{"role":"user","content":"' .. table.concat(words) .. '"}]}'
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %.4f, "p50": %.6f, "p99": %.6f, "wrong": %d}\n', summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, e.connect + e.read + e.write + e.timeout + e.status))
end
