/** What belongs to a session, asked for once and remembered, so that what comes next can be fetched ahead. */

import { address, get, getText } from "../api.ts";
import type { SessionDetail, SessionVideos, VideoDetail, VideoView } from "../types.ts";
import { type Series, seriesOf } from "./series.ts";

export interface Recording {
  session: SessionDetail;
  videos: VideoView[];
  coverage: SessionVideos["cameras"];
}

// Enough for going back and forth between a few episodes.
const REMEMBERED = 24;
const CHUNKS_OF_A_PAGE = 1000;

class Memory<T> {
  private readonly kept = new Map<string, Promise<T>>();

  of(key: string, ask: () => Promise<T>): Promise<T> {
    let found = this.kept.get(key);
    if (found === undefined) {
      found = ask();
      found.catch(() => this.kept.delete(key));
    }
    // The newest is last; the first is what was not asked for the longest.
    this.kept.delete(key);
    this.kept.set(key, found);
    for (const old of this.kept.keys()) {
      if (this.kept.size <= REMEMBERED) break;
      this.kept.delete(old);
    }
    return found;
  }

  forget(key: string): void {
    this.kept.delete(key);
  }
}

const sessionsKept = new Memory<SessionDetail>();
const videosOf = new Memory<Pick<Recording, "videos" | "coverage">>();
const framesKept = new Memory<Series>();
const seriesKept = new Memory<Series>();
// The pictures of a file do not change, and a session of hours has hundreds of files.
const picturesOf = new Map<number, Promise<number[]>>();

export function session(id: number, signal?: AbortSignal): Promise<SessionDetail> {
  return get<SessionDetail>(`sessions/${id}`, signal);
}

/** A session as it was when it was first asked for: enough to look at one of its episodes. */
export function sessionKept(id: number): Promise<SessionDetail> {
  return sessionsKept.of(String(id), () => session(id));
}

/** All video of a session. */
export function videos(id: number): Promise<Pick<Recording, "videos" | "coverage">> {
  return videosOf.of(String(id), async () => {
    const found: VideoView[] = [];
    let cursor: number | null = null;
    let coverage: SessionVideos["cameras"] = [];
    do {
      const page: SessionVideos = await get<SessionVideos>(
        address(`sessions/${id}/videos`, { limit: CHUNKS_OF_A_PAGE, cursor }),
      );
      found.push(...page.videos);
      if (cursor === null) coverage = page.cameras;
      cursor = page.next_cursor;
    } while (cursor !== null);
    return { videos: found, coverage };
  });
}

/** More video may have arrived. */
export function forgetVideos(id: number): void {
  videosOf.forget(String(id));
}

/** Joints of frames first to end - 1, thinned out to about so many points. */
export function series(id: number, first: number, end: number, points: number): Promise<Series> {
  const query = { from: first, to: end, max_points: points };
  return seriesKept.of(`${id} ${first} ${end} ${points}`, async () =>
    seriesOf(await getText(address(`sessions/${id}/frames`, query), "text/csv"), end - first),
  );
}

/** The values of one frame. */
export function frameOf(id: number, frame: number): Promise<Series> {
  return framesKept.of(`${id} ${frame}`, async () =>
    seriesOf(await getText(address(`sessions/${id}/frames`, { from: frame, to: frame + 1 }), "text/csv"), 1),
  );
}

/** For each picture of a chunk, the frame that first saw it. */
export function details(video: number): Promise<number[]> {
  let found = picturesOf.get(video);
  if (found === undefined) {
    found = get<VideoDetail>(`videos/${video}`).then((detail) => detail.frame_indices ?? []);
    found.catch(() => picturesOf.delete(video));
    picturesOf.set(video, found);
  }
  return found;
}
