// The Flight SQL JDBC driver, driven from Python: reads one command a line from standard input, and answers each with
// lines that end with a line of one dot. Fields are separated by tabs; \t, \n, \r, \\ stand for themselves and \N for null.
//
//   connect URL [NAME=VALUE …]     opens the connection that the next commands use
//   query SQL                      a Statement
//   prepare SQL                    a PreparedStatement; the types of its parameters and of its columns
//   execute [TYPE:VALUE …]         the prepared statement with these parameters (string, long, int, double, bool,
//                                  timestamp in UTC, null)
//   meta METHOD [ARGUMENT …]       a method of DatabaseMetaData; arguments as text, {a,b} for an array of texts
//   survey                         every method of DatabaseMetaData that has no arguments, and what it answers
//   cancel SQL                     runs the query, cancels it after a second, and says how that ended, in milliseconds
//   run SQL                        a Statement of any kind: whether it has rows, and how many it changed
//   batch SQL, update SQL          what this server refuses
//   catalog, schema, valid         of the connection
//   close                          of the connection
//
// An answer is `columns` and `types`, then a line for each row; or `value …`; or `error SQLSTATE CODE MESSAGE`.
//
// Run it as a source file: java -cp DRIVER.jar Probe.java

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Properties;

public final class Probe {
  private static PrintStream out;
  private static Connection connection;
  private static PreparedStatement prepared;

  public static void main(String[] args) throws Exception {
    // The driver's own logging goes to standard error; nothing but answers may come here.
    out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err);
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      String[] fields = Arrays.stream(line.split("\t", -1)).map(Probe::unescaped).toArray(String[]::new);
      try {
        obey(fields[0], Arrays.copyOfRange(fields, 1, fields.length));
      } catch (SQLException error) {
        error.printStackTrace();
        say("error", error.getSQLState(), error.getErrorCode(), messages(error));
      } catch (InvocationTargetException error) {
        say("error", null, 0, messages(error.getCause()));
      } catch (Exception | AssertionError error) {
        say("error", null, 0, messages(error));
      }
      out.println(".");
      out.flush();
    }
  }

  private static void obey(String command, String[] given) throws Exception {
    switch (command) {
      case "connect" -> connect(given);
      case "query" -> {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(given[0])) {
          show(rows);
        }
      }
      case "prepare" -> prepare(given[0]);
      case "execute" -> {
        for (int i = 0; i < given.length; i++) {
          set(i + 1, given[i]);
        }
        try (ResultSet rows = prepared.executeQuery()) {
          show(rows);
        }
      }
      case "meta" -> show(call(given[0], Arrays.copyOfRange(given, 1, given.length)));
      case "survey" -> survey();
      case "cancel" -> cancel(given[0]);
      case "batch" -> {
        try (Statement statement = connection.createStatement()) {
          statement.addBatch(given[0]);
          say("value", Arrays.toString(statement.executeBatch()));
        }
      }
      case "run" -> {
        try (Statement statement = connection.createStatement()) {
          say("value", statement.execute(given[0]), statement.getUpdateCount());
        }
      }
      case "update" -> {
        try (Statement statement = connection.createStatement()) {
          say("value", statement.executeUpdate(given[0]));
        }
      }
      case "catalog" -> say("value", connection.getCatalog());
      case "schema" -> say("value", connection.getSchema());
      case "valid" -> say("value", connection.isValid(10));
      case "close" -> {
        if (prepared != null) {
          prepared.close();
          prepared = null;
        }
        connection.close();
        say("value", connection.isClosed());
      }
      default -> throw new IllegalArgumentException("unknown command " + command);
    }
  }

  private static void connect(String[] given) throws SQLException {
    var properties = new Properties();
    for (int i = 1; i < given.length; i++) {
      String[] pair = given[i].split("=", 2);
      properties.setProperty(pair[0], pair[1]);
    }
    connection = DriverManager.getConnection(given[0], properties);
    DatabaseMetaData about = connection.getMetaData();
    say("value", about.getDatabaseProductName(), about.getDatabaseProductVersion(), about.getDriverVersion());
  }

  private static void prepare(String sql) throws SQLException {
    if (prepared != null) {
      prepared.close();
    }
    prepared = connection.prepareStatement(sql);
    ParameterMetaData parameters = prepared.getParameterMetaData();
    Object[] types = new Object[parameters.getParameterCount() + 1];
    types[0] = "parameters";
    for (int i = 1; i < types.length; i++) {
      types[i] = parameters.getParameterTypeName(i);
    }
    say(types);
    head(prepared.getMetaData());
  }

  private static void set(int at, String parameter) throws SQLException {
    String[] pair = parameter.split(":", 2);
    switch (pair[0]) {
      case "string" -> prepared.setString(at, pair[1]);
      case "long" -> prepared.setLong(at, Long.parseLong(pair[1]));
      case "int" -> prepared.setInt(at, Integer.parseInt(pair[1]));
      case "double" -> prepared.setDouble(at, Double.parseDouble(pair[1]));
      case "bool" -> prepared.setBoolean(at, Boolean.parseBoolean(pair[1]));
      case "timestamp" -> prepared.setTimestamp(at, Timestamp.from(Instant.parse(pair[1])));
      case "null" -> prepared.setNull(at, Types.NULL);
      default -> throw new IllegalArgumentException("unknown type " + pair[0]);
    }
  }

  /** A method of DatabaseMetaData by its name and as many arguments. */
  private static Object call(String name, String[] given) throws Exception {
    for (Method method : DatabaseMetaData.class.getMethods()) {
      Class<?>[] types = method.getParameterTypes();
      if (!method.getName().equals(name) || types.length != given.length) {
        continue;
      }
      Object[] arguments = new Object[given.length];
      for (int i = 0; i < given.length; i++) {
        arguments[i] = argument(types[i], given[i]);
      }
      return method.invoke(connection.getMetaData(), arguments);
    }
    throw new IllegalArgumentException("no method " + name + " of " + given.length + " arguments");
  }

  private static Object argument(Class<?> type, String text) {
    if (text == null) {
      return null;
    }
    if (type == int.class) {
      return Integer.parseInt(text);
    }
    if (type == boolean.class) {
      return Boolean.parseBoolean(text);
    }
    if (type == String[].class) {
      String inner = text.substring(1, text.length() - 1);
      return inner.split(",");
    }
    return text;
  }

  private static void survey() {
    Method[] methods = DatabaseMetaData.class.getMethods();
    Arrays.sort(methods, Comparator.comparing(Method::getName));
    for (Method method : methods) {
      if (method.getParameterCount() > 0 || method.getName().equals("getConnection")) {
        continue;
      }
      try {
        Object answer = method.invoke(connection.getMetaData());
        if (answer instanceof ResultSet rows) {
          int count = 0;
          while (rows.next()) {
            count++;
          }
          rows.close();
          answer = "rows: " + count;
        }
        say(method.getName(), "ok", answer);
      } catch (InvocationTargetException error) {
        say(method.getName(), "error", messages(error.getCause()));
      } catch (Exception error) {
        say(method.getName(), "error", messages(error));
      }
    }
  }

  private static void cancel(String sql) throws Exception {
    try (Statement statement = connection.createStatement()) {
      var canceller = new Thread(() -> {
        try {
          Thread.sleep(1000);
          statement.cancel();
        } catch (InterruptedException | SQLException error) {
          error.printStackTrace();
        }
      });
      canceller.start();
      long began = System.nanoTime();
      try (ResultSet rows = statement.executeQuery(sql)) {
        long count = 0;
        while (rows.next()) {
          count++;
        }
        say("value", "ended", count);
      } catch (SQLException error) {
        say("value", "failed", (System.nanoTime() - began) / 1_000_000, messages(error));
      }
      canceller.join();
    }
  }

  private static void show(Object answer) throws SQLException {
    if (!(answer instanceof ResultSet rows)) {
      say("value", answer);
      return;
    }
    ResultSetMetaData about = rows.getMetaData();
    head(about);
    Object[] values = new Object[about.getColumnCount()];
    while (rows.next()) {
      for (int i = 0; i < values.length; i++) {
        values[i] = value(rows, about, i + 1);
      }
      say(values);
    }
    rows.close();
  }

  private static Object value(ResultSet rows, ResultSetMetaData about, int at) throws SQLException {
    int type = about.getColumnType(at);
    if (type == Types.TIMESTAMP || type == Types.TIMESTAMP_WITH_TIMEZONE) {
      Timestamp instant = rows.getTimestamp(at);
      return instant == null ? null : instant.toInstant();
    }
    return rows.getObject(at);
  }

  private static void head(ResultSetMetaData about) throws SQLException {
    int count = about == null ? 0 : about.getColumnCount();
    Object[] names = new Object[count + 1];
    Object[] types = new Object[count + 1];
    names[0] = "columns";
    types[0] = "types";
    for (int i = 1; i <= count; i++) {
      names[i] = about.getColumnLabel(i);
      types[i] = about.getColumnTypeName(i);
    }
    say(names);
    say(types);
  }

  private static void say(Object... fields) {
    String[] texts = Arrays.stream(fields).map(field -> field == null ? "\\N" : escaped(field.toString())).toArray(String[]::new);
    out.println(String.join("\t", texts));
  }

  private static String messages(Throwable error) {
    var text = new StringBuilder();
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      text.append(text.isEmpty() ? "" : " | ").append(cause.getClass().getSimpleName()).append(": ").append(cause.getMessage());
    }
    return text.toString();
  }

  private static String escaped(String text) {
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r");
  }

  private static String unescaped(String text) {
    if (text.equals("\\N")) {
      return null;
    }
    var plain = new StringBuilder();
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '\\' && i + 1 < text.length()) {
        char next = text.charAt(++i);
        plain.append(next == 't' ? '\t' : next == 'n' ? '\n' : next == 'r' ? '\r' : next);
      } else {
        plain.append(c);
      }
    }
    return plain.toString();
  }
}
