-- Jobs: which there are, what they did, and who does them now.

-- Jobs by their names, and since when each has the schedule that it has: no time before that is made up for.
CREATE TABLE job_schedules (
    job TEXT PRIMARY KEY,
    -- The cron expression and its time zone.
    schedule TEXT NOT NULL,
    since TEXT NOT NULL
);

-- Runs. Whoever adds one has it, and says again and again that it does.
CREATE TABLE job_runs (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    -- The due time that it is for; of one that somebody asked for, when they did.
    scheduled_for TEXT NOT NULL,
    -- Somebody asked for it (plantlake run).
    by_hand BOOLEAN NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('running', 'ok', 'failed', 'timed_out', 'skipped', 'aborted')),
    -- How often it was begun; and how often it failed by itself, rather than because of an end of its process.
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    -- The run of a program that has it, and how often that has said so.
    holder TEXT NOT NULL,
    beats INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    renewed_at TEXT NOT NULL,
    ended_at TEXT,
    rows INTEGER,
    error TEXT,
    -- What the job says of it, as JSON.
    summary TEXT,
    -- Each due time has one run.
    UNIQUE (job, scheduled_for)
);
-- A job runs once at a time.
CREATE UNIQUE INDEX job_runs_running ON job_runs (job) WHERE status = 'running';
CREATE INDEX job_runs_status ON job_runs (status, job, scheduled_for);
CREATE INDEX job_runs_started ON job_runs (started_at);
