-- night.sql: a night by hand, as a careful DBA would write it: COPY, ANALYZE,
-- then for each table one MERGE that writes only where a row is distinct, and
-- one anti-join that archives what is gone.  It does less than a sync does: no
-- rejects, no scope, no guards, no counts, and no log of previous values.
\ir copy.sql
ANALYZE hand.in_orgs, hand.in_academicsessions, hand.in_courses,
  hand.in_classes, hand.in_users, hand.in_enrollments;
BEGIN;

MERGE INTO hand.school t USING hand.new_school s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.sis_id, t.name, t.school_number, t.archived_at)
  IS DISTINCT FROM (
    s.sis_id, s.name, s.school_number, NULL)
  THEN UPDATE SET
    sis_id = s.sis_id, name = s.name, school_number = s.school_number,
    archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, sis_id, name, school_number)
  VALUES (
    1, s.source_id, s.sis_id, s.name, s.school_number);
UPDATE hand.school t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_school s WHERE s.source_id = t.source_id);

MERGE INTO hand.term t USING hand.new_term s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.name, t.term_type, t.start_date, t.end_date, t.parent_source_id,
    t.school_year, t.archived_at)
  IS DISTINCT FROM (
    s.name, s.term_type, s.start_date, s.end_date, s.parent_source_id,
    s.school_year, NULL)
  THEN UPDATE SET
    name = s.name, term_type = s.term_type, start_date = s.start_date,
    end_date = s.end_date, parent_source_id = s.parent_source_id,
    school_year = s.school_year, archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year)
  VALUES (
    1, s.source_id, s.name, s.term_type, s.start_date, s.end_date,
    s.parent_source_id, s.school_year);
UPDATE hand.term t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_term s WHERE s.source_id = t.source_id);

MERGE INTO hand.course t USING hand.new_course s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.name, t.course_code, t.school_source_id, t.grades, t.subjects,
    t.archived_at)
  IS DISTINCT FROM (
    s.name, s.course_code, s.school_source_id, s.grades, s.subjects, NULL)
  THEN UPDATE SET
    name = s.name, course_code = s.course_code,
    school_source_id = s.school_source_id, grades = s.grades,
    subjects = s.subjects, archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, name, course_code, school_source_id, grades, subjects)
  VALUES (
    1, s.source_id, s.name, s.course_code, s.school_source_id, s.grades,
    s.subjects);
UPDATE hand.course t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_course s WHERE s.source_id = t.source_id);

MERGE INTO hand.section t USING hand.new_section s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.name, t.section_code, t.section_type, t.course_source_id,
    t.school_source_id, t.term_source_ids, t.grades, t.subjects, t.periods,
    t.location, t.archived_at)
  IS DISTINCT FROM (
    s.name, s.section_code, s.section_type, s.course_source_id,
    s.school_source_id, s.term_source_ids, s.grades, s.subjects, s.periods,
    s.location, NULL)
  THEN UPDATE SET
    name = s.name, section_code = s.section_code,
    section_type = s.section_type, course_source_id = s.course_source_id,
    school_source_id = s.school_source_id,
    term_source_ids = s.term_source_ids, grades = s.grades,
    subjects = s.subjects, periods = s.periods, location = s.location,
    archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods, location)
  VALUES (
    1, s.source_id, s.name, s.section_code, s.section_type,
    s.course_source_id, s.school_source_id, s.term_source_ids, s.grades,
    s.subjects, s.periods, s.location);
UPDATE hand.section t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_section s WHERE s.source_id = t.source_id);

MERGE INTO hand.student t USING hand.new_student s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.sis_id, t.given_name, t.middle_name, t.family_name, t.student_number,
    t.state_id, t.username, t.email, t.phone, t.grade, t.school_source_id,
    t.school_source_ids, t.enabled, t.archived_at)
  IS DISTINCT FROM (
    s.sis_id, s.given_name, s.middle_name, s.family_name, s.student_number,
    s.state_id, s.username, s.email, s.phone, s.grade, s.school_source_id,
    s.school_source_ids, s.enabled, NULL)
  THEN UPDATE SET
    sis_id = s.sis_id, given_name = s.given_name,
    middle_name = s.middle_name, family_name = s.family_name,
    student_number = s.student_number, state_id = s.state_id,
    username = s.username, email = s.email, phone = s.phone, grade = s.grade,
    school_source_id = s.school_source_id,
    school_source_ids = s.school_source_ids, enabled = s.enabled,
    archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled)
  VALUES (
    1, s.source_id, s.sis_id, s.given_name, s.middle_name, s.family_name,
    s.student_number, s.state_id, s.username, s.email, s.phone, s.grade,
    s.school_source_id, s.school_source_ids, s.enabled);
UPDATE hand.student t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_student s WHERE s.source_id = t.source_id);

MERGE INTO hand.staff t USING hand.new_staff s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.sis_id, t.given_name, t.middle_name, t.family_name, t.staff_number,
    t.state_id, t.username, t.email, t.phone, t.roles, t.school_source_id,
    t.school_source_ids, t.enabled, t.archived_at)
  IS DISTINCT FROM (
    s.sis_id, s.given_name, s.middle_name, s.family_name, s.staff_number,
    s.state_id, s.username, s.email, s.phone, s.roles, s.school_source_id,
    s.school_source_ids, s.enabled, NULL)
  THEN UPDATE SET
    sis_id = s.sis_id, given_name = s.given_name,
    middle_name = s.middle_name, family_name = s.family_name,
    staff_number = s.staff_number, state_id = s.state_id,
    username = s.username, email = s.email, phone = s.phone, roles = s.roles,
    school_source_id = s.school_source_id,
    school_source_ids = s.school_source_ids, enabled = s.enabled,
    archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles, school_source_id,
    school_source_ids, enabled)
  VALUES (
    1, s.source_id, s.sis_id, s.given_name, s.middle_name, s.family_name,
    s.staff_number, s.state_id, s.username, s.email, s.phone, s.roles,
    s.school_source_id, s.school_source_ids, s.enabled);
UPDATE hand.staff t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_staff s WHERE s.source_id = t.source_id);

MERGE INTO hand.contact t USING hand.new_contact s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.sis_id, t.given_name, t.family_name, t.email, t.phones, t.username,
    t.archived_at)
  IS DISTINCT FROM (
    s.sis_id, s.given_name, s.family_name, s.email, s.phones, s.username,
    NULL)
  THEN UPDATE SET
    sis_id = s.sis_id, given_name = s.given_name,
    family_name = s.family_name, email = s.email, phones = s.phones,
    username = s.username, archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, sis_id, given_name, family_name, email, phones,
    username)
  VALUES (
    1, s.source_id, s.sis_id, s.given_name, s.family_name, s.email, s.phones,
    s.username);
UPDATE hand.contact t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_contact s WHERE s.source_id = t.source_id);

MERGE INTO hand.student_contact t USING hand.new_student_contact s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.student_source_id, t.contact_source_id, t.relationship, t.archived_at)
  IS DISTINCT FROM (
    s.student_source_id, s.contact_source_id, s.relationship, NULL)
  THEN UPDATE SET
    student_source_id = s.student_source_id,
    contact_source_id = s.contact_source_id, relationship = s.relationship,
    archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, student_source_id, contact_source_id, relationship)
  VALUES (
    1, s.source_id, s.student_source_id, s.contact_source_id, s.relationship);
UPDATE hand.student_contact t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_student_contact s WHERE s.source_id = t.source_id);

MERGE INTO hand.enrollment t USING hand.new_enrollment s
  ON t.sync_id = 1 AND t.source_id = s.source_id
WHEN MATCHED AND (
    t.section_source_id, t.school_source_id, t.person_source_id, t.role,
    t.is_primary, t.begin_date, t.end_date, t.archived_at)
  IS DISTINCT FROM (
    s.section_source_id, s.school_source_id, s.person_source_id, s.role,
    s.is_primary, s.begin_date, s.end_date, NULL)
  THEN UPDATE SET
    section_source_id = s.section_source_id,
    school_source_id = s.school_source_id,
    person_source_id = s.person_source_id, role = s.role,
    is_primary = s.is_primary, begin_date = s.begin_date,
    end_date = s.end_date, archived_at = NULL, updated_at = now()
WHEN NOT MATCHED THEN INSERT (
    sync_id, source_id, section_source_id, school_source_id,
    person_source_id, role, is_primary, begin_date, end_date)
  VALUES (
    1, s.source_id, s.section_source_id, s.school_source_id,
    s.person_source_id, s.role, s.is_primary, s.begin_date, s.end_date);
UPDATE hand.enrollment t SET archived_at = now()
WHERE t.sync_id = 1 AND t.archived_at IS NULL
  AND NOT EXISTS (SELECT FROM hand.new_enrollment s WHERE s.source_id = t.source_id);
COMMIT;
