// The part of the Artillery peer that runs inside of Artillery: a processor with two functions, as its manual has them.
//
// `begin` waits until all calls are open; `pace` waits until the call's next absolute deadline. Artillery's own `think`
// counts from the end of the step before it, so that a flow of `send` and `think` falls behind by a millisecond a frame:
// it would fail for missing frames at any load. The last frames' lateness is taken in `pace`, just before the `send` step.
'use strict';
const fs = require('fs');

const job = JSON.parse(process.env.BENCHMARK_JOB || '{}');
const periodMs = 1000 / job.rate;
const waiting = [];
let lateness = [], opened = 0, framesIn = 0, errors = 0, firstError = '';

// the clock of every peer: CLOCK_MONOTONIC in ms
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

function usage() {
  const { user, system } = process.cpuUsage(); // of the whole process: main thread and worker
  const threads = {};
  for (const thread of fs.readdirSync('/proc/self/task')) {
    try {
      threads[thread] = fs.readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ').map(Number);
    } catch (error) { /* a thread may end meanwhile */ }
  }
  return { at_ns: Math.round(nowMs() * 1e6), cpu_ns: (user + system) * 1000, wait_ns: 0, threads };
}

// Threads of this process wait for each other on its one core: what its busiest thread has waited beyond what all the
// others have run is the least for which other processes held the core.
function waitNs(before, after) {
  const used = Object.entries(after.threads).map(([thread, [ran, waited]]) => {
    const [ranBefore, waitedBefore] = before.threads[thread] || [0, 0];
    return { ran: ran - ranBefore, waited: waited - waitedBefore };
  }).sort((one, other) => other.ran - one.ran);
  const others = used.slice(1).reduce((sum, { ran }) => sum + ran, 0);
  return used.length ? Math.max(used[0].waited - others, 0) : 0;
}

function measure() {
  const before = usage(), rss = process.memoryUsage.rss();
  lateness = [];
  framesIn = 0;
  setTimeout(() => {
    const after = usage(), late = Float64Array.from(lateness).sort();
    const quantile = (share) => late.length ? late[Math.max(Math.ceil(share * late.length), 1) - 1] : null;
    after.wait_ns = waitNs(before, after);
    delete before.threads;
    delete after.threads;
    fs.writeSync(1, '\nBENCHMARK ' + JSON.stringify({
      before, after, frames: late.length, frames_in: framesIn, errors, error: firstError, rss_bytes: rss,
      late_p50_ms: quantile(0.5), late_p99_ms: quantile(0.99),
    }) + '\n');
  }, job.seconds * 1000);
}

function start() {
  const startMs = nowMs() + 100;
  waiting.forEach(({ call, context, next }) => {
    call.dueMs = startMs + periodMs * call.number / job.calls;
    next();
  });
  setTimeout(measure, 100 + job.settle_s * 1000);
}

function begin(context, ee, next) {
  if (!opened) {
    ee.on('error', (error) => {
      errors += 1;
      firstError = firstError || String(error);
    });
  }
  const call = context.call = { number: opened, dueMs: 0 };
  if (job.duplex) context.ws.on('message', () => { framesIn += 1; });
  context.ws.on('close', () => {
    errors += 1;
    firstError = firstError || 'closed by the sink';
  });
  waiting.push({ call, context, next });
  opened += 1;
  if (opened === job.calls) start();
}

function pace(context, ee, next) {
  const call = context.call, leftMs = call.dueMs - nowMs();
  const go = () => {
    lateness.push(nowMs() - call.dueMs);
    call.dueMs += periodMs;
    next();
  };
  if (leftMs > 0) setTimeout(go, Math.ceil(leftMs));
  else setImmediate(go); // behind: others first
}

module.exports = { begin, pace };
