-- same.sql: how many rows differ between the two rosters, by type.  No row, or
-- the two did not do the same job.  Either side makes up the IDs of contact
-- links, so those are compared by their ends.
SELECT 'school', count(*) FROM (
  (SELECT
    source_id, sis_id, name, school_number, archived_at IS NULL
   FROM roster.school
   EXCEPT ALL SELECT
    source_id, sis_id, name, school_number, archived_at IS NULL
   FROM hand.school)
  UNION ALL
  (SELECT
    source_id, sis_id, name, school_number, archived_at IS NULL
   FROM hand.school
   EXCEPT ALL SELECT
    source_id, sis_id, name, school_number, archived_at IS NULL
   FROM roster.school)) d
HAVING count(*) > 0
UNION ALL
SELECT 'term', count(*) FROM (
  (SELECT
    source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year, archived_at IS NULL
   FROM roster.term
   EXCEPT ALL SELECT
    source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year, archived_at IS NULL
   FROM hand.term)
  UNION ALL
  (SELECT
    source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year, archived_at IS NULL
   FROM hand.term
   EXCEPT ALL SELECT
    source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year, archived_at IS NULL
   FROM roster.term)) d
HAVING count(*) > 0
UNION ALL
SELECT 'course', count(*) FROM (
  (SELECT
    source_id, name, course_code, school_source_id, grades, subjects,
    archived_at IS NULL
   FROM roster.course
   EXCEPT ALL SELECT
    source_id, name, course_code, school_source_id, grades, subjects,
    archived_at IS NULL
   FROM hand.course)
  UNION ALL
  (SELECT
    source_id, name, course_code, school_source_id, grades, subjects,
    archived_at IS NULL
   FROM hand.course
   EXCEPT ALL SELECT
    source_id, name, course_code, school_source_id, grades, subjects,
    archived_at IS NULL
   FROM roster.course)) d
HAVING count(*) > 0
UNION ALL
SELECT 'section', count(*) FROM (
  (SELECT
    source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods,
    location, archived_at IS NULL
   FROM roster.section
   EXCEPT ALL SELECT
    source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods,
    location, archived_at IS NULL
   FROM hand.section)
  UNION ALL
  (SELECT
    source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods,
    location, archived_at IS NULL
   FROM hand.section
   EXCEPT ALL SELECT
    source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods,
    location, archived_at IS NULL
   FROM roster.section)) d
HAVING count(*) > 0
UNION ALL
SELECT 'student', count(*) FROM (
  (SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM roster.student
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM hand.student)
  UNION ALL
  (SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM hand.student
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM roster.student)) d
HAVING count(*) > 0
UNION ALL
SELECT 'staff', count(*) FROM (
  (SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM roster.staff
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM hand.staff)
  UNION ALL
  (SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM hand.staff
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles,
    school_source_id, school_source_ids, enabled, archived_at IS NULL
   FROM roster.staff)) d
HAVING count(*) > 0
UNION ALL
SELECT 'contact', count(*) FROM (
  (SELECT
    source_id, sis_id, given_name, family_name, email, phones,
    username, archived_at IS NULL
   FROM roster.contact
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, family_name, email, phones,
    username, archived_at IS NULL
   FROM hand.contact)
  UNION ALL
  (SELECT
    source_id, sis_id, given_name, family_name, email, phones,
    username, archived_at IS NULL
   FROM hand.contact
   EXCEPT ALL SELECT
    source_id, sis_id, given_name, family_name, email, phones,
    username, archived_at IS NULL
   FROM roster.contact)) d
HAVING count(*) > 0
UNION ALL
SELECT 'student_contact', count(*) FROM (
  (SELECT
    student_source_id, contact_source_id, relationship,
    archived_at IS NULL
   FROM roster.student_contact
   EXCEPT ALL SELECT
    student_source_id, contact_source_id, relationship,
    archived_at IS NULL
   FROM hand.student_contact)
  UNION ALL
  (SELECT
    student_source_id, contact_source_id, relationship,
    archived_at IS NULL
   FROM hand.student_contact
   EXCEPT ALL SELECT
    student_source_id, contact_source_id, relationship,
    archived_at IS NULL
   FROM roster.student_contact)) d
HAVING count(*) > 0
UNION ALL
SELECT 'enrollment', count(*) FROM (
  (SELECT
    source_id, section_source_id, school_source_id, person_source_id,
    role, is_primary, begin_date, end_date, archived_at IS NULL
   FROM roster.enrollment
   EXCEPT ALL SELECT
    source_id, section_source_id, school_source_id, person_source_id,
    role, is_primary, begin_date, end_date, archived_at IS NULL
   FROM hand.enrollment)
  UNION ALL
  (SELECT
    source_id, section_source_id, school_source_id, person_source_id,
    role, is_primary, begin_date, end_date, archived_at IS NULL
   FROM hand.enrollment
   EXCEPT ALL SELECT
    source_id, section_source_id, school_source_id, person_source_id,
    role, is_primary, begin_date, end_date, archived_at IS NULL
   FROM roster.enrollment)) d
HAVING count(*) > 0;
