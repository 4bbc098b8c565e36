#!/usr/bin/env bash
# Takes jobs of the queue "words", whose payload is a text, and answers how many words it has. Needs curl 7.82.
url=${JOBQUEUE_URL:-http://127.0.0.1:8080}

post() { # path, body; the token goes in by stdin, so that no list of processes shows it
    curl -sS --fail-with-body --json "$2" -H @- "$url$1" <<<"${JOBQUEUE_TOKEN:+Authorization: Bearer $JOBQUEUE_TOKEN}"
}

while true; do
    job=$(post /jobs/dequeue '{"queue":"words","wait":50}') || { echo "$job" >&2; sleep 1; continue; }
    [[ $job =~ ^\{\"id\":\"([^\"]+)\" ]] || continue # no job came
    id=${BASH_REMATCH[1]}
    [[ $job =~ \"lease\":\{\"token\":\"([^\"]+)\" ]]
    lease=${BASH_REMATCH[1]}
    if words=$(wc -w <<<"${job#*\"payload\":}"); then
        end="\"outcome\":\"succeeded\",\"result\":$((words))"
    else
        end='"outcome":"failed","error":"wc did not work"'
    fi
    post "/jobs/$id/conclude" "{\"lease\":\"$lease\",$end}" >&2
done
