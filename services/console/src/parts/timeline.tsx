/** The whole recording as one bar: its episodes, gaps and marks, and where one is. Drag it, or use its keys. */

import { useEffect, useRef, useState } from "preact/hooks";
import { useKnown } from "../context.tsx";
import { moment, whole } from "../model/format.ts";
import type { Transport } from "../player/transport.ts";
import type { EpisodeView, GapView, MarkView } from "../types.ts";
import { signOf } from "./common.tsx";

interface Props {
  transport: Transport;
  fps: number;
  first: number;
  end: number;
  episodes: EpisodeView[];
  chosen: number | null;
  gaps: GapView[];
  marks: MarkView[];
  zoomed: [number, number] | null;
}

export function Timeline({ transport, fps, first, end, episodes, chosen, gaps, marks, zoomed }: Props) {
  const { say } = useKnown();
  const bar = useRef<HTMLDivElement>(null);
  const head = useRef<HTMLDivElement>(null);
  const length = Math.max(1, end - first);
  const within = (frame: number) => Math.min(Math.max(frame, first), end);
  const left = (frame: number) => `${((within(frame) - first) / length) * 100}%`;
  const width = (from: number, to: number) => `${((within(to) - within(from)) / length) * 100}%`;

  useEffect(
    () =>
      transport.follow((frame) => {
        head.current!.style.left = `${((frame - first) / length) * 100}%`;
        const element = bar.current!;
        element.setAttribute("aria-valuenow", String(frame));
        element.setAttribute("aria-valuetext", `${moment((frame - first) / fps)}`);
      }),
    [transport, first, length, fps],
  );

  const seek = (event: PointerEvent) => {
    const box = bar.current!.getBoundingClientRect();
    transport.seek(first + ((event.clientX - box.left) / box.width) * length);
  };
  const grab = (event: PointerEvent) => {
    bar.current!.setPointerCapture(event.pointerId);
    transport.pause();
    seek(event);
  };
  return (
    <div
      ref={bar}
      class="timeline"
      role="slider"
      tabIndex={0}
      aria-label={say("timeline")}
      aria-valuemin={first}
      aria-valuemax={end - 1}
      aria-valuenow={first}
      onPointerDown={grab}
      onPointerMove={(event) => event.buttons & 1 && seek(event)}
    >
      {episodes.map((episode) => (
        <span
          key={episode.episode_index}
          class={`block ${episode.outcome ?? "unlabelled"} ${episode.episode_index === chosen ? "chosen" : ""}`}
          style={{
            left: left(episode.start_frame),
            width: width(episode.start_frame, episode.end_frame ?? end),
          }}
        >
          {signOf(episode.outcome)} {episode.episode_index}
        </span>
      ))}
      {gaps.map((gap) => (
        <span
          key={`gap ${gap.first_frame}`}
          class="gap"
          title={say("gap", { first: gap.first_frame, last: gap.end_frame - 1, reason: gap.reason })}
          style={{ left: left(gap.first_frame), width: width(gap.first_frame, gap.end_frame) }}
        />
      ))}
      {marks.map((mark) => (
        <span
          key={`mark ${mark.frame_index}`}
          class="mark"
          title={say("mark", { note: mark.note })}
          style={{ left: left(mark.frame_index) }}
        />
      ))}
      {zoomed && (
        <span class="window" style={{ left: left(zoomed[0]), width: width(zoomed[0], zoomed[1]) }} />
      )}
      <div ref={head} class="head" />
    </div>
  );
}

/** Play, pause, single frames, and where one is. */
export function Controls({
  transport,
  fps,
  first,
  end,
}: {
  transport: Transport;
  fps: number;
  first: number;
  end: number;
}) {
  const { say, language } = useKnown();
  const [rate, setRate] = useState(transport.rate);
  const [frame, setFrame] = useState(transport.frame);
  useEffect(() => transport.followRate(() => setRate(transport.rate)), [transport]);
  useEffect(() => transport.follow(setFrame), [transport]);
  return (
    <div class="controls">
      <button type="button" aria-label={say("frameBack")} onClick={() => transport.step(-1)}>
        ◂
      </button>
      <button
        type="button"
        class="play"
        aria-label={say(rate === 0 ? "play" : "pauseButton")}
        onClick={() => transport.toggle()}
      >
        {rate === 0 ? "▶" : "❚❚"}
      </button>
      <button type="button" aria-label={say("frameOn")} onClick={() => transport.step(1)}>
        ▸
      </button>
      <span class="time">
        <b>{moment((frame - first) / fps)}</b> / {moment((end - first) / fps)}
      </span>
      <span class="quiet">
        {say("frameOf", { frame: whole(frame, language), all: whole(end, language) })}
      </span>
      {rate !== 0 && rate !== 1 && <span class="rate">{rate}×</span>}
    </div>
  );
}
