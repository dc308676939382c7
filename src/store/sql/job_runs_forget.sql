DELETE FROM job_runs
WHERE ended_at < $1
    AND EXISTS (
        SELECT 1 FROM job_runs later
        WHERE later.job = job_runs.job AND later.by_hand = job_runs.by_hand AND later.status = job_runs.status
            AND later.scheduled_for > job_runs.scheduled_for
    )
