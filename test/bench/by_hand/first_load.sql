-- first_load.sql: the first load by hand, into tables that are empty: COPY,
-- ANALYZE, INSERT ... SELECT, and the primary keys when the rows are there,
-- which is cheaper than to keep them while rows come.
\ir copy.sql
ANALYZE hand.in_orgs, hand.in_academicsessions, hand.in_courses,
  hand.in_classes, hand.in_users, hand.in_enrollments;
BEGIN;

ALTER TABLE hand.school DROP CONSTRAINT school_pkey;
INSERT INTO hand.school (
    sync_id, source_id, sis_id, name, school_number)
SELECT
    1, source_id, sis_id, name, school_number
FROM hand.new_school;
ALTER TABLE hand.school ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.term DROP CONSTRAINT term_pkey;
INSERT INTO hand.term (
    sync_id, source_id, name, term_type, start_date, end_date,
    parent_source_id, school_year)
SELECT
    1, source_id, name, term_type, start_date, end_date, parent_source_id,
    school_year
FROM hand.new_term;
ALTER TABLE hand.term ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.course DROP CONSTRAINT course_pkey;
INSERT INTO hand.course (
    sync_id, source_id, name, course_code, school_source_id, grades, subjects)
SELECT
    1, source_id, name, course_code, school_source_id, grades, subjects
FROM hand.new_course;
ALTER TABLE hand.course ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.section DROP CONSTRAINT section_pkey;
INSERT INTO hand.section (
    sync_id, source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods, location)
SELECT
    1, source_id, name, section_code, section_type, course_source_id,
    school_source_id, term_source_ids, grades, subjects, periods, location
FROM hand.new_section;
ALTER TABLE hand.section ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.student DROP CONSTRAINT student_pkey;
INSERT INTO hand.student (
    sync_id, source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled)
SELECT
    1, source_id, sis_id, given_name, middle_name, family_name,
    student_number, state_id, username, email, phone, grade,
    school_source_id, school_source_ids, enabled
FROM hand.new_student;
ALTER TABLE hand.student ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.staff DROP CONSTRAINT staff_pkey;
INSERT INTO hand.staff (
    sync_id, source_id, sis_id, given_name, middle_name, family_name,
    staff_number, state_id, username, email, phone, roles, school_source_id,
    school_source_ids, enabled)
SELECT
    1, source_id, sis_id, given_name, middle_name, family_name, staff_number,
    state_id, username, email, phone, roles, school_source_id,
    school_source_ids, enabled
FROM hand.new_staff;
ALTER TABLE hand.staff ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.contact DROP CONSTRAINT contact_pkey;
INSERT INTO hand.contact (
    sync_id, source_id, sis_id, given_name, family_name, email, phones,
    username)
SELECT
    1, source_id, sis_id, given_name, family_name, email, phones, username
FROM hand.new_contact;
ALTER TABLE hand.contact ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.student_contact DROP CONSTRAINT student_contact_pkey;
INSERT INTO hand.student_contact (
    sync_id, source_id, student_source_id, contact_source_id, relationship)
SELECT
    1, source_id, student_source_id, contact_source_id, relationship
FROM hand.new_student_contact;
ALTER TABLE hand.student_contact ADD PRIMARY KEY (sync_id, source_id);

ALTER TABLE hand.enrollment DROP CONSTRAINT enrollment_pkey;
INSERT INTO hand.enrollment (
    sync_id, source_id, section_source_id, school_source_id,
    person_source_id, role, is_primary, begin_date, end_date)
SELECT
    1, source_id, section_source_id, school_source_id, person_source_id,
    role, is_primary, begin_date, end_date
FROM hand.new_enrollment;
ALTER TABLE hand.enrollment ADD PRIMARY KEY (sync_id, source_id);
COMMIT;
