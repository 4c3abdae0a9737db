/** Shows the pictures of one camera, each exactly at the frame that it was recorded with.
 *
 * Our files have only keyframes and are served in ranges, so that a seek to the middle of a picture's time shows
 * that picture, once `seeked` has come. One seek is on its way at a time; the newest wish is next.
 */

import { chunkAt, pictureAt, timeOf } from "../model/pictures.ts";
import { details } from "../model/recording.ts";
import type { VideoView } from "../types.ts";

export interface Shown {
  /** The frame that was asked for. */
  frame: number;
  /** The frame that first saw the picture; null: there is none yet. */
  taken: number | null;
}

export type Trouble = "codec" | "gone";

export class Camera {
  private readonly chunks: VideoView[];
  private readonly videos: [HTMLVideoElement, HTMLVideoElement];
  private readonly loaded: [number | null, number | null] = [null, null];
  private readonly seekedTo: [number, number] = [-1, -1];
  private active = 0;
  private wanted = -1;
  private shown = -1;
  private busy = false;
  closed = false;
  private readonly onShown: (shown: Shown) => void;
  private readonly onTrouble: (trouble: Trouble, chunk: VideoView) => void;

  constructor(
    chunks: VideoView[],
    videos: [HTMLVideoElement, HTMLVideoElement],
    onShown: (shown: Shown) => void,
    onTrouble: (trouble: Trouble, chunk: VideoView) => void,
  ) {
    this.chunks = chunks;
    this.videos = videos;
    this.onShown = onShown;
    this.onTrouble = onTrouble;
  }

  show(frame: number): void {
    if (this.closed) return;
    this.wanted = frame;
    if (!this.busy) void this.catchUp();
  }

  close(): void {
    this.closed = true;
    for (const video of this.videos) {
      video.removeAttribute("src");
      video.load();
    }
  }

  private async catchUp(): Promise<void> {
    this.busy = true;
    while (this.wanted !== this.shown && !this.closed) {
      const frame = this.wanted;
      try {
        const taken = await this.present(frame);
        if (this.closed) break;
        this.onShown({ frame, taken });
      } catch {
        const place = chunkAt(this.chunks, frame);
        if (this.closed || place < 0) break;
        const codec = this.videos.some((video) => (video.error?.code ?? 0) >= MediaError.MEDIA_ERR_DECODE);
        this.onTrouble(codec ? "codec" : "gone", this.chunks[place]!);
      }
      this.shown = frame;
    }
    this.busy = false;
    if (!this.closed) this.prepareNext();
  }

  /** Have the picture of a frame on the screen; the frame that first saw it. */
  private async present(frame: number): Promise<number | null> {
    const place = chunkAt(this.chunks, frame);
    if (place < 0) return null;
    const chunk = this.chunks[place]!;
    const indices = await details(chunk.id);
    const picture = pictureAt(indices, frame);
    const side = this.loaded[this.active] === place ? this.active : 1 - this.active;
    const video = this.videos[side]!;
    if (this.loaded[side] !== place) await this.load(side, place);
    if (this.seekedTo[side] !== picture) {
      const seeked = heard(video, "seeked");
      video.currentTime = timeOf(picture, chunk.fps!);
      await seeked;
      this.seekedTo[side] = picture;
    }
    if (side !== this.active) {
      // The old picture stays until the new one is there.
      video.hidden = false;
      this.videos[this.active]!.hidden = true;
      this.active = side;
    }
    return indices[picture] ?? null;
  }

  private async load(side: number, place: number): Promise<void> {
    const video = this.videos[side]!;
    const ready = heard(video, "loadeddata");
    this.loaded[side] = null;
    this.seekedTo[side] = -1;
    video.src = contentOf(this.chunks[place]!);
    await ready;
    this.loaded[side] = place;
  }

  /** Load the file that comes next into the element that is not shown. */
  private prepareNext(): void {
    const place = this.loaded[this.active];
    const spare = 1 - this.active;
    if (place === null || place === undefined || this.loaded[spare] === place + 1) return;
    const chunk = this.chunks[place + 1];
    if (chunk === undefined) return;
    this.loaded[spare] = null;
    this.seekedTo[spare] = -1;
    const video = this.videos[spare]!;
    void details(chunk.id).catch(() => undefined);
    heard(video, "loadeddata").then(
      () => {
        if (video.src.endsWith(contentOf(chunk))) this.loaded[spare] = place + 1;
      },
      () => undefined,
    );
    video.src = contentOf(chunk);
  }
}

export function contentOf(chunk: VideoView): string {
  return `videos/${chunk.id}/content`;
}

function heard(video: HTMLVideoElement, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      video.removeEventListener(event, done);
      video.removeEventListener("error", fail);
      video.removeEventListener("emptied", fail);
    };
    const done = () => {
      end();
      resolve();
    };
    const fail = (happened: Event) => {
      // Setting `src` empties an element that had another one, and that is no failure of the new one.
      if (happened.type === "emptied" && event === "loadeddata") return;
      end();
      reject(new Error(happened.type));
    };
    video.addEventListener(event, done);
    video.addEventListener("error", fail);
    video.addEventListener("emptied", fail);
  });
}
