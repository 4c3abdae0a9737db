/** What the backend answers, as far as this page reads it. A test compares the names with /openapi.json. */

export type Status = "recording" | "complete" | "interrupted";
export type Outcome = "success" | "failure" | "discarded";

export interface SessionView {
  id: number;
  robot_id: string;
  robot_type: string;
  status: Status;
  start_time: string;
  end_time: string | null;
  fps: number;
  task: string | null;
  frames: number;
  missing: number;
  episodes: number;
  tags: string[];
  note: string | null;
  operator: string | null;
  archive_damage: string | null;
}

export interface SessionPage {
  sessions: SessionView[];
  next_cursor: number | null;
}

export interface EpisodeView {
  episode_index: number;
  start_frame: number;
  end_frame: number | null;
  task: string | null;
  cut_off: boolean;
  outcome: Outcome | null;
  reason: string | null;
  quality: number | null;
  note: string | null;
  tags: string[];
  operator: string | null;
  revision: number;
}

export interface LibraryEpisode extends EpisodeView {
  session_id: number;
  robot_id: string;
  fps: number;
  status: Status;
  start_time: string;
  flags: string[];
  suspicion: number | null;
}

export interface FlagKind {
  name: string;
  unit: string;
  measures: string;
  why: string;
}

export interface FlagView {
  flag: string;
  joint: string | null;
  first_frame: number;
  end_frame: number;
  value: number;
  threshold: number;
  other_session: number | null;
  other_episode: number | null;
}

export interface EpisodeFlags {
  looked_at: string | null;
  waiting: boolean;
  suspicion: number | null;
  flags: FlagView[];
}

export interface EpisodePage {
  episodes: LibraryEpisode[];
  next_cursor: string | null;
}

export interface MarkView {
  frame_index: number;
  note: string;
}

export interface SessionDetail extends SessionView {
  state_names: string[];
  action_names: string[];
  episode_list: EpisodeView[];
  marks: MarkView[];
}

export interface GapView {
  first_frame: number;
  end_frame: number;
  reason: string;
}

export interface CameraAccount {
  camera_key: string;
  chunks: number;
  missing_chunks: number;
  pictures: number;
  awaited_from: number | null;
}

export interface Ledger {
  logged: number | null;
  committed: number;
  exported: number | null;
  missing: number;
  refused: number;
  unaccounted: number;
  duplicates: number;
  cameras: CameraAccount[];
  complete: boolean;
  gaps: GapView[];
  declared_hz: number;
  measured_hz: number | null;
  jitter_ms: number | null;
  longest_stall_ms: number | null;
  stall_at_frame: number | null;
}

export interface VideoView {
  id: number;
  camera_key: string;
  chunk_index: number;
  first_frame_index: number | null;
  frame_count: number | null;
  fps: number | null;
  codec: string | null;
  size_bytes: number;
  width: number | null;
  height: number | null;
  quarantine: string | null;
}

export interface Uncovered {
  first: number;
  end: number;
  reason: string;
}

export interface CameraCoverage {
  camera_key: string;
  pictures: number;
  covered: number;
  uncovered: Uncovered[];
}

export interface SessionVideos {
  frames: number;
  cameras: CameraCoverage[];
  videos: VideoView[];
  next_cursor: number | null;
}

export interface VideoDetail extends VideoView {
  frame_indices: number[] | null;
}

export interface OutcomeReason {
  name: string;
  outcome: Outcome;
  meaning: string;
}

export interface RobotView {
  robot_id: string;
  online: boolean;
}

export interface Caller {
  name: string;
  role: string;
  robot_ids: string[] | null;
  how: string;
  may: string[];
}

export interface StageProgress {
  stage: string;
  done: number;
  total: number;
}

export interface Numbers {
  episodes: number;
  frames: number;
  size_bytes: number;
}

export interface ExportRequest {
  repo_id: string;
  session_ids: number[] | null;
}

export interface ExportView {
  id: number;
  status: "queued" | "running" | "done" | "failed" | "cancelled";
  request: ExportRequest;
  progress: StageProgress[];
  numbers: Numbers | null;
  error: { detail: string; hint?: string } | null;
  created_at: string;
}

export interface ExportPage {
  exports: ExportView[];
  next_cursor: number | null;
}
