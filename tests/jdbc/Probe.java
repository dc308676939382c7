// Runs the Flight SQL JDBC driver for Python tests. Reads one command per line from standard input, and prints its result as
// lines, followed by a line with a dot. Tabs separate fields; \t, \n, \r and \\ are escapes, and \N is null.
//
//   connect URL [NAME=VALUE …]     opens the connection that the next commands use
//   query SQL                      runs a Statement
//   prepare SQL                    prepares a PreparedStatement, and prints the types of its parameters and columns
//   execute [TYPE:VALUE …]         runs the prepared statement with these parameters (string, long, int, double, bool,
//                                  timestamp in UTC, null)
//   objects SQL                    runs a Statement, and prints each value as getObject returns it, with its class
//   meta METHOD [ARGUMENT …]       calls a method of DatabaseMetaData; arguments are texts, {a,b} is an array of texts
//   survey                         calls every method of DatabaseMetaData without parameters, and prints the results
//   cancel SQL                     runs the query, cancels it after a second, and prints the outcome and the milliseconds
//   run SQL                        runs a Statement of any kind, and prints whether it has rows and its update count
//   batch SQL, update SQL          run statements in ways that this server refuses
//   catalog, schema, valid         print properties of the connection
//   close                          closes the connection
//
// A result is `columns` and `types`, then a line for each row; or `value …`; or `error SQLSTATE CODE MESSAGE`.
//
// To run it as a source file: java -cp DRIVER.jar Probe.java

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
    // The driver logs to standard output by default. Only results may go there, so its log goes to standard error.
    out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err);
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      String[] fields = Arrays.stream(line.split("\t", -1)).map(Probe::unescaped).toArray(String[]::new);
      try {
        runCommand(fields[0], Arrays.copyOfRange(fields, 1, fields.length));
      } catch (SQLException error) {
        error.printStackTrace();
        printLine("error", error.getSQLState(), error.getErrorCode(), messages(error));
      } catch (InvocationTargetException error) {
        printLine("error", null, 0, messages(error.getCause()));
      } catch (Exception | AssertionError error) {
        printLine("error", null, 0, messages(error));
      }
      out.println(".");
      out.flush();
    }
  }

  private static void runCommand(String command, String[] texts) throws Exception {
    switch (command) {
      case "connect" -> connect(texts);
      case "query" -> {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(texts[0])) {
          printResult(rows);
        }
      }
      case "prepare" -> prepare(texts[0]);
      case "execute" -> {
        for (int i = 0; i < texts.length; i++) {
          bind(i + 1, texts[i]);
        }
        try (ResultSet rows = prepared.executeQuery()) {
          printResult(rows);
        }
      }
      case "objects" -> {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(texts[0])) {
          printObjects(rows);
        }
      }
      case "meta" -> printResult(call(texts[0], Arrays.copyOfRange(texts, 1, texts.length)));
      case "survey" -> survey();
      case "cancel" -> cancel(texts[0]);
      case "batch" -> {
        try (Statement statement = connection.createStatement()) {
          statement.addBatch(texts[0]);
          printLine("value", Arrays.toString(statement.executeBatch()));
        }
      }
      case "run" -> {
        try (Statement statement = connection.createStatement()) {
          printLine("value", statement.execute(texts[0]), statement.getUpdateCount());
        }
      }
      case "update" -> {
        try (Statement statement = connection.createStatement()) {
          printLine("value", statement.executeUpdate(texts[0]));
        }
      }
      case "catalog" -> printLine("value", connection.getCatalog());
      case "schema" -> printLine("value", connection.getSchema());
      case "valid" -> printLine("value", connection.isValid(10));
      case "close" -> {
        if (prepared != null) {
          prepared.close();
          prepared = null;
        }
        connection.close();
        printLine("value", connection.isClosed());
      }
      default -> throw new IllegalArgumentException("unknown command " + command);
    }
  }

  private static void connect(String[] texts) throws SQLException {
    var properties = new Properties();
    for (int i = 1; i < texts.length; i++) {
      String[] pair = texts[i].split("=", 2);
      properties.setProperty(pair[0], pair[1]);
    }
    connection = DriverManager.getConnection(texts[0], properties);
    DatabaseMetaData metadata = connection.getMetaData();
    printLine("value", metadata.getDatabaseProductName(), metadata.getDatabaseProductVersion(), metadata.getDriverVersion());
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
    printLine(types);
    printColumns(prepared.getMetaData());
  }

  private static void bind(int index, String parameter) throws SQLException {
    String[] pair = parameter.split(":", 2);
    switch (pair[0]) {
      case "string" -> prepared.setString(index, pair[1]);
      case "long" -> prepared.setLong(index, Long.parseLong(pair[1]));
      case "int" -> prepared.setInt(index, Integer.parseInt(pair[1]));
      case "double" -> prepared.setDouble(index, Double.parseDouble(pair[1]));
      case "bool" -> prepared.setBoolean(index, Boolean.parseBoolean(pair[1]));
      case "timestamp" -> prepared.setTimestamp(index, Timestamp.from(Instant.parse(pair[1])));
      case "null" -> prepared.setNull(index, Types.NULL);
      default -> throw new IllegalArgumentException("unknown type " + pair[0]);
    }
  }

  /** Calls the method of DatabaseMetaData with this name and number of parameters. */
  private static Object call(String name, String[] texts) throws Exception {
    for (Method method : DatabaseMetaData.class.getMethods()) {
      Class<?>[] types = method.getParameterTypes();
      if (!method.getName().equals(name) || types.length != texts.length) {
        continue;
      }
      Object[] arguments = new Object[texts.length];
      for (int i = 0; i < texts.length; i++) {
        arguments[i] = argument(types[i], texts[i]);
      }
      return method.invoke(connection.getMetaData(), arguments);
    }
    throw new IllegalArgumentException("no method " + name + " with " + texts.length + " parameters");
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
        printLine(method.getName(), "ok", answer);
      } catch (InvocationTargetException error) {
        printLine(method.getName(), "error", messages(error.getCause()));
      } catch (Exception error) {
        printLine(method.getName(), "error", messages(error));
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
        printLine("value", "ended", count);
      } catch (SQLException error) {
        printLine("value", "failed", (System.nanoTime() - began) / 1_000_000, messages(error));
      }
      canceller.join();
    }
  }

  private static void printResult(Object answer) throws SQLException {
    if (!(answer instanceof ResultSet rows)) {
      printLine("value", answer);
      return;
    }
    ResultSetMetaData metadata = rows.getMetaData();
    printColumns(metadata);
    Object[] values = new Object[metadata.getColumnCount()];
    while (rows.next()) {
      for (int i = 0; i < values.length; i++) {
        values[i] = value(rows, metadata, i + 1);
      }
      printLine(values);
    }
    rows.close();
  }

  private static void printObjects(ResultSet rows) throws SQLException {
    int count = rows.getMetaData().getColumnCount();
    printColumns(rows.getMetaData());
    while (rows.next()) {
      Object[] values = new Object[count];
      for (int i = 0; i < count; i++) {
        Object value = rows.getObject(i + 1);
        values[i] = value == null ? null : value.getClass().getSimpleName() + " " + value;
      }
      printLine(values);
    }
  }

  private static Object value(ResultSet rows, ResultSetMetaData metadata, int index) throws SQLException {
    int type = metadata.getColumnType(index);
    if (type == Types.TIMESTAMP || type == Types.TIMESTAMP_WITH_TIMEZONE) {
      Timestamp instant = rows.getTimestamp(index);
      return instant == null ? null : instant.toInstant();
    }
    return rows.getObject(index);
  }

  private static void printColumns(ResultSetMetaData metadata) throws SQLException {
    int count = metadata == null ? 0 : metadata.getColumnCount();
    Object[] names = new Object[count + 1];
    Object[] types = new Object[count + 1];
    names[0] = "columns";
    types[0] = "types";
    for (int i = 1; i <= count; i++) {
      names[i] = metadata.getColumnLabel(i);
      types[i] = metadata.getColumnTypeName(i);
    }
    printLine(names);
    printLine(types);
  }

  private static void printLine(Object... fields) {
    var texts = Arrays.stream(fields).map(field -> field == null ? "\\N" : escaped(field.toString()));
    out.println(String.join("\t", texts.toArray(String[]::new)));
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
