-- tables.sql: what the job by hand needs, made once.
--
-- Staging tables with the columns of the files, unlogged; typed views over
-- them, so that each cast is written once; and target tables of the same shape
-- as the roster's: same columns, same primary key, same fillfactor.  They lack
-- the roster's trigger, which makes an update by hand cheaper, not dearer.

CREATE SCHEMA hand;

CREATE UNLOGGED TABLE hand.in_orgs (
  sourcedid text COLLATE "C", status text, modified text, name text, type text,
  identifier text, parent text);
CREATE UNLOGGED TABLE hand.in_academicsessions (
  sourcedid text COLLATE "C", status text, modified text, title text, type text,
  startdate text, enddate text, parent text COLLATE "C", schoolyear text);
CREATE UNLOGGED TABLE hand.in_courses (
  sourcedid text COLLATE "C", status text, modified text, schoolyear text,
  title text, coursecode text, grades text, org text COLLATE "C", subjects text,
  subjectcodes text);
CREATE UNLOGGED TABLE hand.in_classes (
  sourcedid text COLLATE "C", status text, modified text, title text,
  grades text, course text COLLATE "C", classcode text, classtype text,
  location text, school text COLLATE "C", terms text COLLATE "C", subjects text,
  subjectcodes text, periods text);
CREATE UNLOGGED TABLE hand.in_users (
  sourcedid text COLLATE "C", status text, modified text, enabled text,
  orgs text COLLATE "C", role text, username text, userids text, givenname text,
  familyname text, middlename text, identifier text COLLATE "C", email text,
  sms text, phone text, agents text COLLATE "C", grades text, password text);
CREATE UNLOGGED TABLE hand.in_enrollments (
  sourcedid text COLLATE "C", status text, modified text,
  class text COLLATE "C", school text COLLATE "C", person text COLLATE "C",
  role text, is_primary text, begindate text, enddate text);

-- What is new is compared by this view's columns, and written from them.
CREATE VIEW hand.new_school AS
  SELECT sourcedid AS source_id, identifier COLLATE "C" AS sis_id, name,
         identifier AS school_number
  FROM hand.in_orgs WHERE type = 'school' AND coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_term AS
  SELECT sourcedid AS source_id, title AS name, type AS term_type,
         startdate::date AS start_date, enddate::date AS end_date,
         parent AS parent_source_id, schoolyear AS school_year
  FROM hand.in_academicsessions WHERE coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_course AS
  SELECT sourcedid AS source_id, title AS name, coursecode AS course_code,
         org AS school_source_id, string_to_array(grades, ',') AS grades,
         string_to_array(subjects, ',') AS subjects
  FROM hand.in_courses WHERE coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_section AS
  SELECT sourcedid AS source_id, title AS name, classcode AS section_code,
         classtype AS section_type, course AS course_source_id,
         school AS school_source_id,
         string_to_array(terms, ',') AS term_source_ids,
         string_to_array(grades, ',') AS grades,
         string_to_array(subjects, ',') AS subjects,
         string_to_array(periods, ',') AS periods, location
  FROM hand.in_classes WHERE coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_student AS
  SELECT sourcedid AS source_id, identifier AS sis_id, givenname AS given_name,
         middlename AS middle_name, familyname AS family_name,
         identifier AS student_number,
         substring(userids FROM '\{[^:}]*[Ss]tate[^:}]*:([^}]*)\}') AS state_id,
         username, email, coalesce(phone, sms) AS phone,
         split_part(grades, ',', 1) AS grade,
         split_part(orgs, ',', 1) AS school_source_id,
         string_to_array(orgs, ',') AS school_source_ids,
         enabled::boolean AS enabled
  FROM hand.in_users WHERE role = 'student' AND coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_staff AS
  SELECT sourcedid AS source_id, identifier AS sis_id, givenname AS given_name,
         middlename AS middle_name, familyname AS family_name,
         identifier AS staff_number,
         substring(userids FROM '\{[^:}]*[Ss]tate[^:}]*:([^}]*)\}') AS state_id,
         username, email, coalesce(phone, sms) AS phone,
         ARRAY[lower(role)] AS roles,
         split_part(orgs, ',', 1) AS school_source_id,
         string_to_array(orgs, ',') AS school_source_ids,
         enabled::boolean AS enabled
  FROM hand.in_users WHERE role IN ('teacher', 'administrator', 'aide', 'proctor')
    AND coalesce(status, 'active') = 'active';
CREATE VIEW hand.new_contact AS
  SELECT sourcedid AS source_id, identifier AS sis_id, givenname AS given_name,
         familyname AS family_name, email,
         CASE WHEN phone IS NULL AND sms IS NULL THEN NULL
              ELSE array_remove(ARRAY[phone, sms], NULL) END AS phones,
         username
  FROM hand.in_users WHERE role IN ('parent', 'guardian', 'relative')
    AND coalesce(status, 'active') = 'active';
-- A student names his contacts; a contact may name the students too.
CREATE VIEW hand.new_student_contact AS
  SELECT (student || ':' || contact) COLLATE "C" AS source_id,
         student AS student_source_id, contact AS contact_source_id,
         max(relationship) AS relationship
  FROM (SELECT u.sourcedid AS student, a.id COLLATE "C" AS contact, NULL AS relationship
        FROM hand.in_users u, unnest(string_to_array(u.agents, ',')) a (id)
        WHERE u.role = 'student' AND u.agents IS NOT NULL
          AND coalesce(u.status, 'active') = 'active'
        UNION ALL
        SELECT a.id COLLATE "C", u.sourcedid, u.role
        FROM hand.in_users u, unnest(string_to_array(u.agents, ',')) a (id)
        WHERE u.role IN ('parent', 'guardian', 'relative') AND u.agents IS NOT NULL
          AND coalesce(u.status, 'active') = 'active') l
  GROUP BY student, contact;
CREATE VIEW hand.new_enrollment AS
  SELECT sourcedid AS source_id, class AS section_source_id,
         school AS school_source_id, person AS person_source_id,
         lower(role) AS role, is_primary::boolean AS is_primary,
         begindate::date AS begin_date, enddate::date AS end_date
  FROM hand.in_enrollments WHERE coalesce(status, 'active') = 'active';

SELECT format('CREATE TABLE hand.%1$I (LIKE roster.%1$I INCLUDING ALL) WITH (fillfactor = 90)', t)
FROM unnest(ARRAY['school', 'term', 'course', 'section', 'student', 'staff',
                  'contact', 'student_contact', 'enrollment']) t
\gexec
