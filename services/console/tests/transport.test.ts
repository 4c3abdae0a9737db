import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Transport } from "../src/player/transport.ts";

let ticks: ((now: number) => void)[] = [];
let now = 0;

/** Let so many ms pass, in frames of the screen. */
function pass(ms: number): void {
  for (const until = now + ms; now < until; ) {
    now = Math.min(now + 16, until);
    const due = ticks;
    ticks = [];
    for (const each of due) each(now);
  }
}

beforeEach(() => {
  ticks = [];
  now = 0;
  vi.stubGlobal("requestAnimationFrame", (tick: (now: number) => void) => ticks.push(tick));
  vi.stubGlobal("cancelAnimationFrame", () => undefined);
  vi.stubGlobal("performance", { now: () => now });
});
afterEach(() => vi.unstubAllGlobals());

it("plays as many frames as the recording has in that time, and stops at the end", () => {
  const transport = new Transport(60, 0, 120);
  const seen: number[] = [];
  transport.follow((frame) => seen.push(frame));
  transport.toggle();
  pass(500);
  expect(transport.frame).toBe(30);
  pass(5000);
  expect([transport.frame, transport.rate]).toEqual([119, 0]);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

it("begins anew when it is played at its end", () => {
  const transport = new Transport(60, 10, 20, 19);
  transport.toggle();
  expect([transport.frame, transport.rate]).toEqual([10, 1]);
});

it("goes faster with each L, backwards with J, and pauses with K", () => {
  const transport = new Transport(60, 0, 10_000, 5000);
  const rates: number[] = [];
  transport.followRate(() => rates.push(transport.rate));
  transport.shuttle(1);
  transport.shuttle(1);
  transport.shuttle(1);
  transport.shuttle(-1);
  transport.shuttle(-1);
  transport.pause();
  expect(rates).toEqual([1, 2, 4, -1, -2, 0]);
  transport.shuttle(-1);
  pass(1000);
  expect(transport.frame).toBe(4940);
});

it("never leaves its frames, and a step pauses", () => {
  const transport = new Transport(30, 5, 8);
  transport.toggle();
  transport.step(-1);
  expect([transport.frame, transport.rate]).toEqual([5, 0]);
  transport.step(99);
  expect(transport.frame).toBe(7);
  transport.extend(100);
  transport.step(10);
  expect(transport.frame).toBe(17);
});
