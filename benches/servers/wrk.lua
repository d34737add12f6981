-- Sends requests of one path, each with the next of the cookies in a file, if one is named:
--
--     wrk -s wrk.lua URL -- PATH [FILE]

local requests, last = {}, 0

function init(arguments)
   if arguments[2] then
      for cookie in io.lines(arguments[2]) do
         requests[#requests + 1] = wrk.format("GET", arguments[1], { Cookie = cookie })
      end
   else
      requests[1] = wrk.format("GET", arguments[1])
   end
end

function request()
   last = last % #requests + 1
   return requests[last]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format("measured %d %d %d %d %d\n", summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
