/** Pictures, timeline and plots of a stretch of a recording, on one axis. */

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Problem } from "../api.ts";
import { problemIn, useAsked } from "../asking.ts";
import type { Action } from "../model/keys.ts";
import { forgetVideos, series, videos } from "../model/recording.ts";
import type { Series } from "../model/series.ts";
import { Transport } from "../player/transport.ts";
import type { GapView, SessionDetail } from "../types.ts";
import { Cameras } from "./cameras.tsx";
import { Loading, Trouble } from "./common.tsx";
import { Plots } from "./plots.tsx";
import { Controls, Timeline } from "./timeline.tsx";

// Rows that are asked for: about two for each pixel of a wide plot.
export const POINTS = 1500;
// While a session is recorded.
const VIDEO_EVERY_MS = 5000;

interface Props {
  session: SessionDetail;
  transport: Transport;
  first: number;
  end: number;
  chosen: number | null;
  gaps: GapView[];
  zoom: [number, number] | null;
  onZoom: (range: [number, number] | null) => void;
}

/** The clock of a stretch of frames; a new one for another stretch. */
export function useTransport(
  fps: number,
  first: number,
  end: number,
  key: string,
  frame?: number,
): Transport {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the end moves while a session is recorded
  const transport = useMemo(() => new Transport(fps, first, end, frame), [fps, first, key]);
  transport.extend(end);
  useEffect(() => () => transport.pause(), [transport]);
  return transport;
}

export function Player({ session, transport, first, end, chosen, gaps, zoom, onZoom }: Props) {
  const recording = session.status === "recording";
  const [from, to] = zoom ?? [first, end];
  const shown = useSeries(session.id, from, to);
  const film = useAsked(
    async () => {
      if (recording) forgetVideos(session.id);
      return videos(session.id);
    },
    [session.id],
    recording ? VIDEO_EVERY_MS : null,
  );
  const range = useMemo<[number, number]>(() => [from, to], [from, to]);
  const episodes = session.episode_list.filter(
    (each) => each.start_frame < end && (each.end_frame ?? end) > first,
  );
  return (
    <div class="player">
      {film.value ? (
        <Cameras videos={film.value.videos} coverage={film.value.coverage} transport={transport} />
      ) : film.problem ? (
        <Trouble problem={film.problem} again={film.again} />
      ) : (
        <Loading />
      )}
      <div class="transport">
        <Timeline
          {...{ transport, first, end, episodes, chosen, gaps, marks: session.marks, zoomed: zoom }}
          fps={session.fps}
        />
        <Controls transport={transport} fps={session.fps} first={first} end={end} />
      </div>
      {shown.problem && <Trouble problem={shown.problem} />}
      {shown.series ? (
        <Plots
          sessionId={session.id}
          series={shown.series}
          fps={session.fps}
          origin={first}
          {...{ transport, range, onZoom }}
          zoomed={zoom !== null}
        />
      ) : (
        !shown.problem && <Loading />
      )}
    </div>
  );
}

/** The joints of a range; those before stay until the new ones are there. */
function useSeries(id: number, from: number, to: number): { series: Series | null; problem: Problem | null } {
  const [shown, setShown] = useState<{ id: number; series: Series | null; problem: Problem | null }>({
    id,
    series: null,
    problem: null,
  });
  useEffect(() => {
    let closed = false;
    series(id, from, to, POINTS).then(
      (found) => !closed && setShown({ id, series: found, problem: null }),
      (error) => !closed && setShown({ id, series: null, problem: problemIn(error) }),
    );
    return () => {
      closed = true;
    };
  }, [id, from, to]);
  return shown.id === id ? shown : { series: null, problem: null };
}

/** Do what a key asks for about playing; whether it was such a key. */
export function playBy(action: Action, transport: Transport): boolean {
  switch (action) {
    case "play":
      transport.toggle();
      break;
    case "back":
      transport.shuttle(-1);
      break;
    case "pause":
      transport.pause();
      break;
    case "forward":
      transport.shuttle(1);
      break;
    case "frame-back":
      transport.step(-1);
      break;
    case "frame-on":
      transport.step(1);
      break;
    case "ten-back":
      transport.step(-10);
      break;
    case "ten-on":
      transport.step(10);
      break;
    case "start":
      transport.step(transport.first - transport.frame);
      break;
    case "end":
      transport.step(transport.end - 1 - transport.frame);
      break;
    default:
      return false;
  }
  return true;
}
