/** Which picture of which file belongs to a frame. Pure. */

import type { VideoView } from "../types.ts";
import { lastAtMost } from "./series.ts";

/** The chunks of one camera that can be shown, in the order of their frames. */
export function usable(videos: VideoView[], camera: string): VideoView[] {
  return videos
    .filter((video) => video.camera_key === camera && video.quarantine === null)
    .filter((video) => video.first_frame_index !== null && (video.fps ?? 0) > 0)
    .sort((a, b) => a.first_frame_index! - b.first_frame_index! || a.chunk_index - b.chunk_index);
}

/** Place of the chunk whose pictures were the newest at a frame; -1 before the first picture. */
export function chunkAt(chunks: VideoView[], frame: number): number {
  return lastAtMost(
    chunks.map((chunk) => chunk.first_frame_index!),
    frame,
  );
}

/**
 * Number of the picture that a frame shows: the newest that the loop had seen by then.
 *
 * indices  for each picture of the chunk, the frame that first saw it, ascending
 */
export function pictureAt(indices: number[], frame: number): number {
  return Math.max(0, lastAtMost(indices, frame));
}

/** Where to seek for a picture, s: the middle of the time for which it is shown. */
export function timeOf(picture: number, fps: number): number {
  return (picture + 0.5) / fps;
}
