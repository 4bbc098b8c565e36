// Takes jobs of the queue "words", whose payload is a text, and answers how many words it has. Needs Node 18.
const { JOBQUEUE_URL: url = "http://127.0.0.1:8080", JOBQUEUE_TOKEN: token } = process.env;
const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };

async function post(path, body) {
  const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
  return answer.status === 204 ? null : answer.json();
}

const work = async (text) => text.split(/\s+/).filter(Boolean).length;

for (;;) {
  try {
    const job = await post("/jobs/dequeue", { queue: "words", wait: 50 });
    if (job === null) continue;
    const end = await work(job.payload).then((result) => ({ outcome: "succeeded", result }), (error) => ({ outcome: "failed", error: `${error}` }));
    await post(`/jobs/${encodeURIComponent(job.id)}/conclude`, { lease: job.lease.token, ...end });
  } catch (error) {
    console.error(`${error}`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
